"""The road of a training job, from a table and a config to an artifact that has checked itself."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from bsm_core.artifact import save_artifact
from bsm_core.artifact.check_rows import write_check_rows
from bsm_core.artifact.files import TRAINING_METRICS, writing
from bsm_core.errors import DataError, UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.plugins.hooks import without_hooks
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.predictor import Predictor, building, text_pipelines, warn_of_counts
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.scoring.provenance import add_provenance
from bsm_core.scoring.self_check import make
from bsm_core.training.data import Rows, class_indices, class_order, read_columns
from bsm_core.training.fitting import balanced_weights, fit_impute, fit_risk_tables
from bsm_core.training.loop import LAST, Fitted, fit
from bsm_core.training.text_assets import TextParts, prepare_text
from bsm_core.training.training_config import TrainingJob, read_config_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger("bsm")

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Trained:
    """A finished training job.

    Attributes:
        folder: The artifact.
        metrics: What ``training_metrics.json`` holds: ``rows``, ``classes``, ``epochs`` and ``best``.
        seconds: Wall time of each epoch of this process, validation not included.
    """

    folder: Path
    metrics: dict[str, Any]
    seconds: list[float]


@dataclass(frozen=True)
class _Prepared:
    """Everything that is fitted before the weights are."""

    text: TextParts
    impute: dict[str, float]
    risk_tables: dict[str, dict[str, Any]]
    changes: dict[str, Any]  # of the config
    train: Batch
    validation: Batch | None


def train(
    config: Mapping[str, Any] | str | Path,
    data: str | Path | pd.DataFrame | pa.Table,
    output: str | Path,
    *,
    validation: str | Path | pd.DataFrame | pa.Table | None = None,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    registry: Registry | None = None,
) -> Trained:
    """Train a model and write its artifact.

    The tokenizer, risk tables, imputation values and class weights are fitted on the training part alone. A job that
    was stopped goes on from its last epoch when it is run again. The same seed gives the same files on one machine,
    with one number of threads.

    Args:
        config: The config, or a JSON file of it: the artifact's keys, the model class's and the training job's.
        data: The rows, with labels: a file or folder, a DataFrame or a pyarrow Table.
        output: The artifact's folder, which must not be there or be empty.
        validation: Rows to measure on and to choose the best epoch by. Where None, ``validation_fraction`` of the rows
            is held out.
        accelerator: ``"auto"`` is a GPU where there is one. One device is used.
        registry: Where names are looked up; the process's own where None.

    Raises:
        UsageError: The output is there already, or another job was stopped there; or there is no GPU.
        ConfigError: Config keys are missing or wrong; it names all of them.
        MissingColumnsError: Columns are missing; it names all of them.
        DataError: Rows without a usable label, or a file that cannot be read.
    """
    output = Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UsageError("the output is there already", where=str(output), fix="name a new folder, or remove it")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError("there is no GPU here", fix="leave the accelerator to 'auto', or set it to 'cpu'")
    values = config if isinstance(config, Mapping) else read_config_file(Path(config))
    job = TrainingJob.from_config(values, registry or default_registry())
    with isolate_rng(), _work_folder(output) as work:
        torch.manual_seed(job.training.seed)
        rows, held, order = _rows(job, data, validation)
        log.info("training on %s rows, measuring on %s", f"{len(rows):,}", f"{len(held):,}" if held else "none")
        prepared = _prepare(job, rows, held, order)
        model = _model(job, prepared)
        _own(work, job, prepared)
        fitted = fit(model, prepared.train, prepared.validation, job.training, work / CHECKPOINTS, accelerator)
        metrics = _metrics(fitted, rows, held, order)
        with writing(output):
            artifact = _save(work / "artifact", job, prepared, fitted.weights, metrics)
            hookless = without_hooks(job.registry)  # no guard can vouch for what was made a moment ago
            predictor = Predictor.open(artifact, registry=hookless)
            if job.training.check_rows:
                write_check_rows(artifact, make(predictor, (held or rows).head(job.training.check_rows)))
            add_provenance(artifact, predictor)
            _publish(artifact, output)
    if held:
        log.info("the best epoch is %d", fitted.best + 1)
    log.info("artifact: %s", output)
    return Trained(output, metrics, fitted.seconds)


@contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """A hidden folder beside the output; it stays where it has a checkpoint and the job is stopped or fails."""
    work = output.absolute().with_name(f".{output.absolute().name}.training")
    with writing(output):
        work.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        yield work
        done = True
    finally:
        if done or not _checkpointed(work):
            shutil.rmtree(work)
        else:
            log.warning("stopped; the same job, run again, goes on from its last epoch, which is kept in %s", work)


def _checkpointed(work: Path) -> bool:
    return (work / CHECKPOINTS / LAST).exists()


def _rows(job: TrainingJob, data: Any, validation: Any) -> tuple[Rows, Rows | None, list[Any]]:
    """The training part, the validation part and the label of each class."""
    label, artifact = job.training.label_name, job.artifact
    wanted = {label: "config.label_name"} | Preprocessor(artifact, {}, {}, {}).wanted
    columns = read_columns(data, wanted, _called(data, "data"))
    order = class_order(columns[label], label, artifact.num_classes, job.training.multiclass_categories)

    rows = Rows(columns, class_indices(columns[label], label, order, _called(data, "data")))
    if validation is None:
        rows, held = rows.split(job.training.validation_fraction, job.training.seed)
    else:
        called = _called(validation, "validation")
        columns = read_columns(validation, wanted, called)
        held = Rows(columns, class_indices(columns[label], label, order, called))
    if held and job.training.monitor == "auroc" and not held.labels.bincount(minlength=len(order)).all():
        raise DataError(
            "the validation part has no row of some classes, and no AUROC to find the best epoch by",
            where="config.monitor",
            fix="give more rows to measure on, or set monitor to 'log_loss'",
        )
    return rows, held, order


def _called(data: Any, name: str) -> str:
    return str(data) if isinstance(data, str | Path) else name


def _prepare(job: TrainingJob, rows: Rows, held: Rows | None, order: list[Any]) -> _Prepared:
    config, training = job.artifact, job.training
    texts = {text.column for text in config.text_fields}
    categories = [name for name in config.tab_field_list if name in config.cat_field_list and name not in texts]
    impute = fit_impute(rows.columns, [name for name in config.tab_field_list if name not in categories])
    risk_tables = fit_risk_tables(
        rows.columns,
        categories,
        rows.labels,
        classes=config.num_classes,
        smoothing=training.risk_smoothing,
        min_count=training.risk_min_count,
    )
    text = prepare_text(job, rows.columns)
    changes: dict[str, Any] = {"multiclass_categories": order, **text.config()}
    if training.class_weights == "balanced":
        changes["class_weights"] = balanced_weights(rows.labels, config.num_classes)
    preprocess = Preprocessor(config, text_pipelines(config, text.tokenizer, job.registry), impute, risk_tables)
    return _Prepared(
        text, impute, risk_tables, changes, _batch(preprocess, rows), _batch(preprocess, held) if held else None
    )


def _batch(preprocess: Preprocessor, rows: Rows) -> Batch:
    batch, findings = preprocess.batch(rows.columns, len(rows))
    warn_of_counts(findings.counts())
    return Batch(batch.rows, batch.texts, batch.features, rows.labels)


def _model(job: TrainingJob, prepared: _Prepared) -> ModelBase:
    values = job.model_values({**prepared.changes, **prepared.text.provided()})
    with building(job.artifact.model_class, where="config", fix="correct the key it speaks of"):
        model = job.model_class.from_config(values)
        for key, state in prepared.text.pretrained.items():
            model.load_pretrained(key, state)
    model.component = job.component
    return model.train()


def _own(work: Path, job: TrainingJob, prepared: _Prepared) -> None:
    """Take the work folder; checkpoints in it must be of the same job on the same rows."""
    digest = hashlib.sha256(json.dumps([str(work), job.values], sort_keys=True).encode())
    for batch in filter(None, (prepared.train, prepared.validation)):
        texts = (part for text in batch.texts.values() for part in vars(text).values())
        for tensor in (batch.features, batch.labels, *texts):
            digest.update(tensor.numpy().tobytes())
    mark = work / "job.sha256"
    if _checkpointed(work) and mark.read_text() != digest.hexdigest():
        raise UsageError(
            "an earlier job with another config or other rows was stopped here, or its folder was moved",
            where=str(work),
            fix="run that one again to finish it, or remove the folder",
        )
    mark.write_text(digest.hexdigest())


def _metrics(fitted: Fitted, rows: Rows, held: Rows | None, order: list[Any]) -> dict[str, Any]:
    epochs = [
        {key: None if math.isnan(value) else value for key, value in {**measured, "epoch": number}.items()}
        for number, measured in enumerate(fitted.epochs, start=1)
    ]
    return {
        "rows": {"training": len(rows), "validation": len(held) if held else 0},
        "classes": order,
        "epochs": epochs,
        "best": epochs[fitted.best],
    }


def _save(
    folder: Path, job: TrainingJob, prepared: _Prepared, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]
) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # a job that was stopped while it saved
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
    """Move the artifact to where it belongs; a folder that is there may be a mount point, and stays."""
    if output.exists():
        shutil.copytree(artifact, output, dirs_exist_ok=True)
    else:
        artifact.replace(output)
