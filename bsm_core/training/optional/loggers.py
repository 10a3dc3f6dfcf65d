"""Loggers of Lightning by name: metrics of each step and epoch in files or in MLflow, while a job trains."""

from __future__ import annotations

import csv
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bsm_core.errors import EngineError
from bsm_core.runtime import durable
from bsm_core.training.resuming.checkpoints import read_checkpoint

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger("bsm")

LoggerName = Literal["csv", "tensorboard", "mlflow"]
"""Name of a logger in the config."""
_PACKAGES: Mapping[str, tuple[str, ...]] = {"tensorboard": ("tensorboardX", "tensorboard"), "mlflow": ("mlflow",)}
"""Packages by logger; one of them is needed."""
_RUN_ID = "mlflow_run_id"
_EXPERIMENT = "bsm"


def lacking(names: Sequence[str]) -> str:
    """Return which loggers lack their package, and how to install it; empty if none does."""
    absent = [name for name in names if name in _PACKAGES and not any(map(find_spec, _PACKAGES[name]))]
    commands = " and ".join(f'pip install "bsm-core[{name}]"' for name in absent)
    return f"{', '.join(absent)} cannot be used: the package is not installed; {commands}" if absent else ""


def open_loggers(
    names: Sequence[str], values: Mapping[str, Any], logs: Path, work: Path, checkpoint: Path
) -> list[Logger]:
    """Return loggers that begin a new log, or continue the log of the checkpoint.

    Steps after the checkpoint are trained and logged again, so their old lines are removed first. A run in MLflow keeps
    both.

    Args:
        names: Names of the loggers.
        values: Hyperparameters: the config of the job.
        logs: Folder of the files: ``csv/metrics.csv``, ``tensorboard/events…``, and ``hparams.yaml`` in both folders.
            Its name is that of the run in MLflow.
        work: Folder that remembers the run in MLflow.
        checkpoint: Checkpoint from which training resumes, if it exists.

    Raises:
        EngineError: MLflow cannot be reached, or refuses the run.
        CheckpointError: The checkpoint cannot be read.
        SinkError: A file cannot be written.
    """
    step = None
    if names and checkpoint.exists():
        step = int(read_checkpoint(checkpoint, lazily=True)["global_step"])
    opened: list[Logger] = []
    with durable.writing(logs):
        for name in dict.fromkeys(names):
            if name == "mlflow":
                opened.append(_mlflow(logs, work, step))
            else:
                if step is None:
                    _remove_log(logs / name)
                opened.append(_csv(logs, step) if name == "csv" else _tensorboard(logs, step))
                log.info("logs: %s", logs / name)
        for logger in opened:
            logger.log_hyperparams(dict(values))
    return opened


def _remove_log(folder: Path) -> None:
    """Remove the log of an earlier job with this output, and no other file."""
    for pattern in ("metrics.csv", "hparams.yaml", "events.out.tfevents.*"):
        for file in folder.glob(pattern):
            file.unlink()


def _csv(logs: Path, step: int | None) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    class CSVLog(CSVLogger):
        """Log whose errors of writing name the file."""

        def save(self) -> None:
            with durable.writing(file):
                super().save()

    file = logs / "csv/metrics.csv"
    kept = [] if step is None else list(_rows_before(step, file))
    logger = CSVLog(logs, name="", version="csv")
    with warnings.catch_warnings(action="ignore"):  # Lightning removes the file, and says so
        logger.experiment.save()
    for row in kept:
        logger.experiment.log_metrics({k: v for k, v in row.items() if v and k != "step"}, int(row["step"]))
    logger.experiment.save()
    return logger


def _rows_before(step: int, file: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV log before a step. Rows that a process was killed in writing are left out."""
    lines, _ = durable.read_lines(file)  # without a last line that has no end
    header, *rows = csv.reader(line.replace("\0", "") for line in lines) if lines else [[]]
    damaged = 0
    for cells in rows:
        row = dict(zip(header, cells, strict=False))
        if len(cells) != len(header) or not row.get("step", "").isdecimal():
            damaged += 1
        elif int(row["step"]) < step:
            yield row
    if damaged:
        log.warning("%s: %d row(s) that are damaged are left out", file, damaged)


def _tensorboard(logs: Path, step: int | None) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    # TensorBoard shows nothing of this step and later ones that an earlier file of the folder has.
    # Its name has the second in which it was made: the suffix keeps an earlier file of the same second.
    options: dict[str, Any] = {"purge_step": step, "filename_suffix": f".{step or 0}"}
    return TensorBoardLogger(logs, name="", version="tensorboard", default_hp_metric=False, **options)


def _mlflow(logs: Path, work: Path, step: int | None) -> Logger:
    import mlflow
    from lightning.pytorch.loggers import MLFlowLogger

    remembered = work / _RUN_ID
    run = remembered.read_text() if step is not None and remembered.exists() else None
    address = os.environ.get("MLFLOW_TRACKING_URI") or mlflow.get_tracking_uri()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
    try:
        logger = MLFlowLogger(experiment, logs.name.removesuffix("-logs"), tracking_uri=address, run_id=run)
        durable.write(remembered, str(logger.run_id))
    except Exception as error:  # of MLflow, of its store or of the network
        raise EngineError(
            f"MLflow cannot be used: {error}",
            where=f"the tracking server {address}",
            fix="set MLFLOW_TRACKING_URI to one that works, or remove 'mlflow' from the loggers of the config",
        ) from error
    log.info("logs: run %s of the experiment %r in MLflow", logger.run_id, experiment)
    return logger
