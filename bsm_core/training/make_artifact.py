"""A training job: from a table and a config to an artifact that was checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from bsm_core.storage.temporary import uploading
from bsm_core.training.baselines import tell_baselines
from bsm_core.training.config.config_advice import naming_config_keys
from bsm_core.training.config.config_file import read_config_file
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.loop import fit
from bsm_core.training.optional.device_precision import check_precision
from bsm_core.training.optional.folds import check_folds, score_folds
from bsm_core.training.optional.loggers import open_loggers
from bsm_core.training.optional.lora import merge_adapters
from bsm_core.training.prepared import Prepared, build_model
from bsm_core.training.result.trained_metrics import JobRows, check_calibration, measure_training
from bsm_core.training.result.write_trained import complete_trained, save_trained
from bsm_core.training.resuming.checkpoints import LAST
from bsm_core.training.resuming.work_folder import beside, claim, located, publish, work_folder
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


@naming_config_keys()
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
        CheckpointError: A checkpoint of a job that was stopped cannot be read.
        EngineError: Memory of the device runs out.
        ModelFailedError: The model class fails.
        DivergedError: Training diverges; what the job would resume from is removed.
        SinkError: A file cannot be written, for example because the disk is full.
        ConfigError: Config keys are missing or wrong. The error names all of them.
        MissingColumnsError: Columns are missing. The error names all of them.
        DataError: Rows have no usable label, or a file cannot be read.

    Example:
        Train a model, and score rows with it::

            trained = bsm_core.train("config.json", "labeled.csv", "churn-model")
            frame = bsm_core.Predictor.from_artifact(trained.folder).predict(rows)  # rows: a table
    """
    output = place(output)
    whole = located(output)
    page_file = place(report) if report else beside(whole, "-report.html")
    check_report(page_file)
    gpu = _has_gpu(accelerator)
    values = config if isinstance(config, Mapping) else read_config_file(place(config))
    job = TrainingJob(values, registry or default_registry())
    check_precision(job.training.precision, gpu=gpu)
    if not job.training.validation_fraction and validation is None:
        check_calibration(job, None)
    with isolate_rng(), work_folder(whole) as held:
        work = held.path
        with uploading(whole) as made:
            torch.manual_seed(job.training.seed)
            all_rows, given, order = read_rows(job, data, validation)
            rows, held_out = divide(job, all_rows, given, order)
            tell_classes(order, rows, held_out, job.artifact.given_class_names)
            check_calibration(job, held_out)
            check_folds(job, (all_rows, given), order)
            log.info("training on %s rows, validating on %s", f"{len(rows):,}", f"{len(held_out or ()):,}")
            prepared = Prepared(job, rows, held_out, order)
            model = build_model(job, prepared)
            claim(held, job, prepared)
            logs = beside(made, "-logs")
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
                publish(artifact, work, made)
        if held_out:
            log.info("the best epoch is %d", best + 1)
            tell_baselines(metrics["best"], metrics["baselines"], job.training.monitor)
        if page:
            write_report(page_file, page)
            log.info("report of the validation rows: %s", page_file)
    log.info("artifact: %s", output)
    return Trained(output, metrics, history.seconds)


def _has_gpu(accelerator: str) -> bool:
    gpu = accelerator != "cpu" and torch.cuda.is_available()
    if accelerator == "gpu" and not gpu:
        raise UsageError("this machine has no GPU", fix="set the accelerator to 'auto' or 'cpu'")
    return gpu
