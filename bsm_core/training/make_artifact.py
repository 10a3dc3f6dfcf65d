"""A training job: from a table and a config to an artifact that was checked."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from bsm_core.artifact import Artifact, save_artifact
from bsm_core.artifact.check_rows import write_check_rows
from bsm_core.artifact.files import TRAINING_METRICS
from bsm_core.artifact.training_distributions import write_training_distributions
from bsm_core.errors import DataError, UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.plugins.hooks import without_hooks
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.predictor import Predictor
from bsm_core.predictor.model_building import building
from bsm_core.preprocess.cells import Column
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import Findings, IssueWarnings, warn_of_counts
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.runtime.durable import writing
from bsm_core.scoring.output.run_report import check_report, drawn, write_report
from bsm_core.scoring.provenance import add_provenance
from bsm_core.scoring.self_check import make
from bsm_core.storage.objects import place
from bsm_core.storage.temporary import is_temporary, uploading
from bsm_core.tables.data_files import SourceFormat
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.data import Rows, class_indices, class_order, read_columns
from bsm_core.training.distributions import fit_distributions
from bsm_core.training.fitting import balanced_weights, fit_impute, fit_magnitudes, fit_risk_tables
from bsm_core.training.loop import LAST, fit
from bsm_core.training.metrics import History
from bsm_core.training.text_assets import TextAssets
from bsm_core.training.training_config import TrainingJob, read_config_file
from bsm_core.training.validation_report import Validated, with_scores

if TYPE_CHECKING:
    from bsm_core.preprocess.columns import TableLike

log = logging.getLogger("bsm")


@dataclass(frozen=True)
class Trained:
    """A finished training job.

    Attributes:
        folder: Folder of the artifact.
        metrics: Content of ``training_metrics.json``: ``rows``, ``classes``, ``epochs`` and ``best``.
        seconds: Wall time of each epoch that this process trained, without validation.

    Example:
        Print the metrics of the best epoch::

            trained = bsm_core.train("config.json", "labeled.csv", "another-model")
            print(trained.folder, trained.metrics["best"])
    """

    folder: Path
    metrics: dict[str, Any]
    seconds: list[float]


class _Prepared:
    """The batches of a job, and everything that is fitted before the weights.

    Attributes:
        impute: Imputation values, as :func:`fit_impute` returns them.
        risk_tables: Risk tables, as :func:`fit_risk_tables` returns them.
        text: Tokenizers, encoders and embeddings.
        changes: Config keys of the artifact whose values the job chose.
        train: The training rows, with labels.
        distributions: Distributions of the training rows.
        validation: The validation rows, with labels; None if there are none.
        validation_findings: What was wrong with cells of the validation rows.
    """

    def __init__(self, job: TrainingJob, rows: Rows, held_out: Rows | None, order: list[Any]) -> None:
        config, training = job.artifact, job.training
        texts = {text.column for text in config.text_fields}
        categories = [name for name in config.tab_field_list if name in config.cat_field_list and name not in texts]
        numbers = [name for name in config.tab_field_list if name not in categories]
        self.impute = fit_impute(rows.columns, numbers, rows.dialect)
        self.risk_tables = fit_risk_tables(
            rows,
            categories,
            classes=config.num_classes,
            smoothing=training.risk_smoothing,
            min_count=training.risk_min_count,
        )
        self.text = TextAssets(job, rows.columns)
        self.changes: dict[str, Any] = {"multiclass_categories": order, **self.text.config()}
        self.changes["largest_magnitudes"] = fit_magnitudes(rows.columns, numbers, self.impute, rows.dialect)
        if training.class_weights == "balanced":
            self.changes["class_weights"] = balanced_weights(rows.labels, config.num_classes)
        tokenizer = self.text.tokenizer
        pipelines = text_pipelines(config, lambda field: tokenizer(field.prefix), job.registry, job.names)
        preprocess = Preprocessor(config, pipelines, self.impute, self.risk_tables)
        self.train, found = _batch(preprocess, rows)
        kinds = {"numbers": numbers, "categories": categories}
        self.distributions = fit_distributions(preprocess, rows, self.train, found, **kinds)
        self.validation: Batch | None = None
        self.validation_findings = Findings()
        if held_out:
            self.validation, self.validation_findings = _batch(preprocess, held_out)


def train(
    config: Mapping[str, Any] | str | Path,
    data: str | Path | TableLike,
    output: str | Path,
    *,
    validation: str | Path | TableLike | None = None,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    report: str | Path | None = None,
    registry: Registry | None = None,
) -> Trained:
    """Train a model and write its artifact.

    The tokenizer, imputation values, risk tables and class weights are fitted on the training rows alone. A job that
    was stopped resumes from its last epoch when it is run again. On one machine and number of threads, the same
    seed writes the same files.

    Args:
        config: Config keys of the artifact, the model class and the training job, or a JSON file that holds them.
        data: Rows with labels: a file, a folder, or a table as :meth:`bsm_core.Predictor.predict` takes it.
        output: Folder of the artifact, which must be empty or not exist. For a folder of an object store, the job
            works in a temporary folder, so it begins anew after it was stopped.
        validation: Rows with labels, on which each epoch is measured and the best one is chosen. If None,
            ``validation_fraction`` of ``data`` is used for this, and not for training.
        accelerator: ``"auto"`` is a GPU if there is one. One device is used.
        report: HTML file for the report of the validation rows. None: beside ``output``, with ``-report.html`` at the
            end of its name. Without validation rows there is no report.
        registry: Registry in which names are looked up; the default registry of the process if None.

    Raises:
        UsageError: The output is not empty, a different job was stopped there, or there is no GPU.
        ConfigError: Config keys are missing or wrong. The error names all of them.
        MissingColumnsError: Columns are missing. The error names all of them.
        DataError: Rows have no usable label, or a file cannot be read.

    Example:
        Train a model, and score rows with it::

            trained = bsm_core.train("config.json", "labeled.csv", "churn-model")
            frame = bsm_core.Predictor.from_artifact(trained.folder).predict(rows)  # rows: a table
    """
    output = place(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        what = "the output already exists and is not an empty folder"
        raise UsageError(what, where=str(output), fix="name a new folder, or remove this one")
    beside = place(report) if report else output.absolute().with_name(f"{output.absolute().name}-report.html")
    check_report(beside)
    gpu = accelerator != "cpu" and torch.cuda.is_available()
    if accelerator == "gpu" and not gpu:
        raise UsageError("this machine has no GPU", fix="set the accelerator to 'auto' or 'cpu'")
    values = config if isinstance(config, Mapping) else read_config_file(place(config))
    job = TrainingJob(values, registry or default_registry())
    with isolate_rng(), uploading(output) as made, _work_folder(made) as work:
        torch.manual_seed(job.training.seed)
        rows, held_out, order = _rows(job, data, validation)
        log.info("training on %s rows, validating on %s", f"{len(rows):,}", f"{len(held_out or ()):,}")
        prepared = _Prepared(job, rows, held_out, order)
        model = _model(job, prepared)
        _claim(work, job, prepared)
        weights, best, history = fit(model, prepared.train, prepared.validation, job.training, work, gpu=gpu)
        metrics = _metrics(history, best, rows, held_out, order)
        with writing(output):
            artifact = _save(work / "artifact", job, prepared, weights, metrics)
            # Without hooks: a guard cannot know an artifact that was just made.
            registry = without_hooks(job.registry)
            predictor = Predictor.load(Artifact.load(artifact), registry=registry, names=job.names)
            if job.training.check_rows:
                shown = held_out or rows
                write_check_rows(artifact, make(predictor, shown.head(job.training.check_rows), shown.dialect))
            scored = Validated.of(predictor, prepared.validation, gpu=gpu) if prepared.validation else None
            write_training_distributions(artifact, with_scores(prepared.distributions, scored))
            add_provenance(artifact, predictor)
            page = None
            if scored and held_out:
                draw = partial(scored.page, output, prepared.validation_findings, held_out.numbers(), best + 1)
                page = drawn(draw, "the artifact is")
            _publish(artifact, made)
    if held_out:
        log.info("the best epoch is %d", best + 1)
    if page:
        write_report(beside, page)
        log.info("report of the validation rows: %s", beside)
    log.info("artifact: %s", output)
    return Trained(output, metrics, history.seconds)


@contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """Provide a hidden folder next to the output. Keep it if the job stops or fails after a checkpoint."""
    work = output.absolute().with_name(f".{output.absolute().name}.training")
    with writing(output):
        work.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        yield work
        done = True
    finally:
        if done or is_temporary(work) or not _checkpointed(work):
            shutil.rmtree(work)
        else:
            log.warning("stopped; run the same job again to resume from its last epoch, which is kept in %s", work)


def _checkpointed(work: Path) -> bool:
    return (work / LAST).exists()


def _read(job: TrainingJob, data: Any, called: str) -> tuple[dict[str, Column], Dialect, SourceFormat | None]:
    """Return the columns of a table, the label among them, the spelling of numbers in their text, and its format."""
    config, label = job.artifact, job.training.label_name
    wanted = {label: "config.label_name"} | Preprocessor(config, {}, {}, {}).wanted
    columns, source = read_columns(data, wanted, called, Dialect.of_config(config.as_mapping()))
    preprocess = Preprocessor(config, {}, {}, {}, source=source)
    return {**preprocess.as_read(columns), label: columns[label]}, preprocess.dialect, source.format if source else None


def _rows(job: TrainingJob, data: Any, validation: Any) -> tuple[Rows, Rows | None, list[Any]]:
    """Return the training rows, the validation rows and the label of each class."""
    label, artifact = job.training.label_name, job.artifact
    columns, dialect, source = _read(job, data, _called(data, "data"))
    order = class_order(columns[label], label, artifact.num_classes, job.training.multiclass_categories)

    labels = class_indices(columns[label], label, order, _called(data, "data"))
    rows = Rows(columns, labels, dialect=dialect, source=source)
    if validation is None:
        rows, held_out = rows.split(job.training.validation_fraction, job.training.seed)
    else:
        called = _called(validation, "validation")
        columns, dialect, source = _read(job, validation, called)
        labels = class_indices(columns[label], label, order, called)
        held_out = Rows(columns, labels, dialect=dialect, source=source)
    if held_out and job.training.monitor == "auroc" and not held_out.labels.bincount(minlength=len(order)).all():
        raise DataError(
            "AUROC cannot be computed to choose the best epoch: some classes have no validation rows",
            where="config.monitor",
            fix="give more validation rows, or set monitor to 'log_loss'",
        )
    return rows, held_out, order


def _called(data: Any, name: str) -> str:
    return str(data) if isinstance(data, str | Path) else name


def _batch(preprocess: Preprocessor, rows: Rows) -> tuple[Batch, Findings]:
    batch, findings = preprocess.batch(rows.columns, len(rows), dialect=rows.dialect)
    numbers = rows.numbers()
    IssueWarnings().add(findings, lambda found: [numbers[row] for row in found])
    warn_of_counts(findings.counts(), len(rows), rows.source)
    return replace(batch, labels=rows.labels), findings


def _model(job: TrainingJob, prepared: _Prepared) -> ModelBase:
    values = job.model_values({**prepared.changes, **prepared.text.provided()})
    where = "the training config"
    with building(job.artifact.model_class, where, fix="correct the key that the message names"):
        model = job.model_class.from_config(values, where=where)
        for key, state in prepared.text.pretrained.items():
            model.load_pretrained(key, state)
    model.component = job.names.model_class
    return model.train()


def _claim(work: Path, job: TrainingJob, prepared: _Prepared) -> None:
    """Mark the work folder with a digest of the job and its rows.

    Raises:
        UsageError: The folder holds a checkpoint of a different job.
    """
    digest = hashlib.sha256(json.dumps([str(work), job.values], sort_keys=True).encode())
    for batch in filter(None, (prepared.train, prepared.validation)):
        texts = (tensor for text in batch.texts.values() for tensor in vars(text).values())
        for tensor in (batch.features, batch.labels, *texts):
            digest.update(tensor.numpy().tobytes())
    mark = work / "job.sha256"
    if _checkpointed(work) and mark.read_text() != digest.hexdigest():
        raise UsageError(
            "a job with a different config or different rows was stopped here, or its folder was moved",
            where=str(work),
            fix="run that job again to finish it, or remove the folder",
        )
    mark.write_text(digest.hexdigest())


def _metrics(history: History, best: int, rows: Rows, held_out: Rows | None, order: list[Any]) -> dict[str, Any]:
    epochs = [{key: None if math.isnan(value) else value for key, value in epoch.items()} for epoch in history.epochs]
    return {
        "rows": {"training": len(rows), "validation": len(held_out) if held_out else 0},
        "classes": order,
        "epochs": epochs,
        "best": epochs[best],
    }


def _save(
    folder: Path, job: TrainingJob, prepared: _Prepared, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]
) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # remains of a job that was stopped while it saved
    save_artifact(
        folder,
        config=job.artifact_values(prepared.changes),
        state_dict=weights,
        risk_tables=prepared.risk_tables,
        impute=prepared.impute,
        tokenizers=prepared.text.tokenizers,
        encoder_configs={key.removesuffix("text_encoder"): value for key, value in prepared.text.encoders.items()},
        embedding_mat=prepared.text.embedding,
    )
    (folder / TRAINING_METRICS).write_text(json.dumps(metrics, indent=2) + "\n")
    return folder


def _publish(artifact: Path, output: Path) -> None:
    """Move the artifact to the output folder; an existing folder is filled, because it may be a mount point."""
    if output.exists():
        shutil.copytree(artifact, output, dirs_exist_ok=True)
    else:
        artifact.replace(output)
