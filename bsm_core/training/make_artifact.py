"""A training job: from a table and a config to an artifact that was checked."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from bsm_core.errors import UsageError
from bsm_core.plugins.registry import Registry, default_registry
from bsm_core.runtime.durable import writing
from bsm_core.scoring.output.run_report import check_report, write_report
from bsm_core.storage.objects import place
from bsm_core.storage.temporary import is_temporary, uploading
from bsm_core.training.baselines import tell_baselines
from bsm_core.training.config.config_file import read_config_file
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.loop import LAST, fit
from bsm_core.training.optional.device_precision import check_precision
from bsm_core.training.optional.folds import check_folds, score_folds
from bsm_core.training.optional.loggers import open_loggers
from bsm_core.training.optional.lora import merge_adapters
from bsm_core.training.prepared import Prepared, build_model
from bsm_core.training.result.trained_metrics import JobRows, check_calibration, measure_training
from bsm_core.training.result.write_trained import complete_trained, save_trained
from bsm_core.training.rows.log_lines import tell_classes
from bsm_core.training.rows.read_rows import divide, read_rows

if TYPE_CHECKING:
    from bsm_core.preprocess.columns import TableLike

log = logging.getLogger("bsm")


@dataclass(frozen=True)
class Trained:
    """A finished training job.

    Attributes:
        folder: Folder of the artifact.
        metrics: Content of ``training_metrics.json``: ``rows``, ``classes``, ``epochs``, ``best``; with validation rows
            ``baselines``; and, if the config asks for them, ``folds`` and ``calibration``.
        seconds: Wall time of each epoch that this process trained, without validation.

    Example:
        Print the metrics of the best epoch::

            trained = bsm_core.train("config.json", "labeled.csv", "another-model")
            print(trained.folder, trained.metrics["best"])
    """

    folder: Path
    metrics: dict[str, Any]
    seconds: list[float]


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

    The tokenizer, imputation values, risk tables, scaling and class weights are fitted on the training rows alone. A
    job that was stopped resumes from its last epoch when it is run again. On one machine and number of threads, the
    same seed writes the same files.

    Args:
        config: Config keys of the artifact, the model class and the training job, or a TOML or JSON file that holds
            them.
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
    gpu = _has_gpu(accelerator)
    values = config if isinstance(config, Mapping) else read_config_file(place(config))
    job = TrainingJob(values, registry or default_registry())
    check_precision(job.training.precision, gpu=gpu)
    if not job.training.validation_fraction and validation is None:
        check_calibration(job, None)
    with isolate_rng(), uploading(output) as made, _work_folder(made) as work:
        torch.manual_seed(job.training.seed)
        all_rows, given, order = read_rows(job, data, validation)
        rows, held_out = divide(job, all_rows, given, order)
        tell_classes(order, rows, held_out, job.artifact.given_class_names)
        check_calibration(job, held_out)
        check_folds(job, (all_rows, given), order)
        log.info("training on %s rows, validating on %s", f"{len(rows):,}", f"{len(held_out or ()):,}")
        prepared = Prepared(job, rows, held_out, order)
        model = build_model(job, prepared)
        _claim(work, job, prepared)
        logs = made.absolute().with_name(f"{made.name}-logs")
        folds = score_folds(job, (all_rows, given), order, work, logs, gpu=gpu) if job.training.folds else []
        loggers = open_loggers(job.training.loggers, job.values, logs, work, work / LAST)
        batches = (prepared.train, prepared.validation)
        weights, best, history = fit(model, *batches, job.training, work, gpu=gpu, loggers=loggers)
        weights = merge_adapters(model, weights) if job.training.lora else weights
        model.load_state_dict(weights)
        parts = JobRows(all_rows, given, rows, held_out, order)
        metrics = measure_training(job, parts, prepared, model, (history, best), folds, gpu=gpu)
        with writing(output):
            artifact = work / "artifact"
            save_trained(artifact, job, prepared, weights, metrics)
            page = complete_trained(artifact, job, parts, prepared, metrics, output, gpu=gpu)
            _publish(artifact, made)
    if held_out:
        log.info("the best epoch is %d", best + 1)
        tell_baselines(metrics["best"], metrics["baselines"], job.training.monitor)
    if page:
        write_report(beside, page)
        log.info("report of the validation rows: %s", beside)
    log.info("artifact: %s", output)
    return Trained(output, metrics, history.seconds)


def _has_gpu(accelerator: str) -> bool:
    gpu = accelerator != "cpu" and torch.cuda.is_available()
    if accelerator == "gpu" and not gpu:
        raise UsageError("this machine has no GPU", fix="set the accelerator to 'auto' or 'cpu'")
    return gpu


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
    return (work / LAST).exists() or any(work.glob("fold-*/*"))


def _claim(work: Path, job: TrainingJob, prepared: Prepared) -> None:
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


def _publish(artifact: Path, output: Path) -> None:
    """Move the artifact to the output folder; an existing folder is filled, because it may be a mount point."""
    if output.exists():
        shutil.copytree(artifact, output, dirs_exist_ok=True)
    else:
        artifact.replace(output)
