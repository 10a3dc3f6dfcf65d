"""Training loop: Lightning's Trainer, the choice of the best epoch, and resuming from a checkpoint."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler

from bsm_core.errors import ConfigError, DivergedError, EngineError, ModelFailedError
from bsm_core.models.bad_rows import NOT_FINITE
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.runtime.profile import Advance, Ended, notify
from bsm_core.scoring.engines.callbacks import SECONDS_BETWEEN_LINES
from bsm_core.scoring.engines.trainer import quiet
from bsm_core.training.config.training_config import TrainingConfig
from bsm_core.training.metrics import History, mode_of
from bsm_core.training.resuming.checkpoints import BEST, LAST, WholeCheckpoints, read_checkpoint
from bsm_core.training.rows.shuffled_batches import BatchRows, ShuffledBatches

log = logging.getLogger("bsm")

_VALIDATION_ROWS_PER_BATCH = 1024
_LINES = 10
"""Fewest steps of an epoch that a logger gets. In an epoch of more than 500 steps, it gets every fiftieth."""
_ONE_ROW = "Expected more than 1 value per channel when training"
"""Beginning of PyTorch's error of batch normalization on one row."""
_INTENDED = ".*have no `val_dataloader`|Checkpoint directory .* exists and is not empty"


def fit(
    model: ModelBase,
    train: Batch,
    validation: Batch | None,
    config: TrainingConfig,
    folder: Path,
    *,
    gpu: bool,
    loggers: Sequence[Logger] = (),
) -> tuple[dict[str, Tensor], int, History]:
    """Train a model, from the checkpoint in the folder if there is one.

    On one machine and number of threads, the same seed returns the same weights. This also holds for a job that
    was stopped, during an epoch or between two, and run again.

    Args:
        model: The model with its initial weights.
        train: Training rows, with labels.
        validation: Rows on which each epoch is measured, with labels.
        config: Config of the training job.
        folder: Folder of the checkpoints, which may hold other files, too.
        gpu: Whether to train on a GPU instead of the CPU. One device is used.
        loggers: Loggers for the metrics of steps and epochs.

    Returns:
        The state dict of the best epoch, on the CPU (of the last epoch if there are no validation rows); the number of
        that epoch, from 0; and the metrics and times of all epochs.

    Raises:
        ConfigError: The model normalizes over the rows of a batch, and a batch has one row.
        EngineError: The device runs out of memory.
        CheckpointError: A checkpoint cannot be read.
        ModelFailedError: The model class fails.
        DivergedError: Loss or probabilities become NaN or infinite.
        SinkError: A checkpoint cannot be written.
    """
    history = History(config.seed, config.monitor)
    keep = partial(ModelCheckpoint, folder, save_on_train_epoch_end=True, enable_version_counter=False)
    # Not save_last: it keeps the last epoch only if that is the best one.
    best = last = keep(Path(LAST).stem)
    callbacks: list[Callback] = [history, *([LearningRateMonitor("step")] if loggers else [])]
    batches = ShuffledBatches(train, config.batch_size, config.seed)
    loader = _loader(train, batches, gpu)
    validation_loader = None
    if validation is not None:
        monitored: dict[str, Any] = {"monitor": config.monitor, "mode": mode_of(config.monitor)}
        best = keep(Path(BEST).stem, **monitored)
        patience = config.early_stopping_patience
        callbacks += [best, _Stopping(**monitored, patience=patience, check_on_train_epoch_end=True)]
        sampler = BatchSampler(range(validation.rows), _VALIDATION_ROWS_PER_BATCH, drop_last=False)
        validation_loader = _loader(validation, sampler, gpu)
    callbacks.append(last)
    callbacks.append(EpochProgress(train.rows, config.max_epochs))
    resume = folder / LAST if (folder / LAST).exists() else None
    if resume:
        log.info("resuming from %s", resume)
        if validation is not None:
            read_checkpoint(folder / BEST, lazily=True)  # now, not after the remaining epochs
    with quiet(), _undisturbed(), _failures(model, config, history):
        trainer = pl.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            # One process: ignore the variables of a cluster.
            plugins=[LightningEnvironment(), WholeCheckpoints()],
            precision=config.precision,
            max_epochs=config.max_epochs,
            accumulate_grad_batches=config.accumulate_grad_batches,
            gradient_clip_val=config.gradient_clip_val,
            callbacks=callbacks,
            deterministic="warn" if gpu else True,  # some GPU kernels have no deterministic version
            num_sanity_val_steps=0,
            logger=list(loggers) or False,
            log_every_n_steps=min(50, max(1, len(batches) // config.accumulate_grad_batches // _LINES)),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader, validation_loader, ckpt_path=resume)
    checkpoint = read_checkpoint(Path(best.best_model_path))
    return checkpoint["state_dict"], checkpoint["epoch"], history


@contextmanager
def _failures(model: ModelBase, config: TrainingConfig, history: History) -> Iterator[None]:
    """Turn errors of the training loop into errors that say what to do."""
    try:
        yield
    except ModelFailedError as error:
        if history.was_finite and (isinstance(error, DivergedError) or NOT_FINITE in error.what):
            raise _diverged(error, model, config, len(history.epochs) + 1) from error
        if not str(error.__cause__).startswith(_ONE_ROW):
            raise
        raise ConfigError(
            "the model has batch normalization, which cannot train on a batch of one row",
            where="config.batch_size",
            fix="set batch_size to 2 or more, and give at least two training rows",
        ) from error
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the device ran out of memory in a training step: {error}",
            fix="lower batch_size, max_sen_len or max_total_chunks, or set the accelerator to 'cpu'",
        ) from error


def _diverged(error: ModelFailedError, model: ModelBase, config: TrainingConfig, epoch: int) -> DivergedError:
    rates = {"lr": model.config.lr, "encoder_lr": model.config.encoder_lr}
    lower = {key: value for key, value in rates.items() if value} | {"gradient_clip_val": config.gradient_clip_val}
    fix = f"lower {', '.join(f'{key} (it is {value:g})' for key, value in lower.items())}"
    fix += f"; set precision to '32-true' (it is {config.precision!r})" * (config.precision != "32-true")
    return DivergedError(
        f"training diverged in epoch {epoch}: {error.what}",
        where=error.where,
        details=error.details,
        fix=f"{fix}; or look for very large numbers in the features, which scaling 'robust' or 'quantile' bounds",
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hide Lightning's warnings of what is intended, and restore the deterministic mode of the process at the end."""
    warnings.filterwarnings("ignore", _INTENDED)
    mode = torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


class EpochProgress(Callback):
    """Report of the rows of each epoch, which has the number that the log lines give it.

    Args:
        rows: Number of training rows.
        epochs: Number of epochs.
    """

    def __init__(self, rows: int, epochs: int) -> None:
        self._total, self._epochs = rows, epochs
        self._rows, self._began, self._reported = 0, 0.0, time.monotonic()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count."""
        self._rows, self._began = 0, time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Report the rows of the epoch up to a batch."""
        now = time.monotonic()
        is_due = now - self._reported >= SECONDS_BETWEEN_LINES
        self._reported = now if is_due else self._reported
        self._rows = min(self._total, self._rows + batch.rows)
        what, share = f"epoch {trainer.current_epoch + 1} of {self._epochs}", self._rows / max(1, self._total)
        notify(Advance(what, self._rows, share, self._total, True, now - self._began, is_due=is_due))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """End the report of the epoch, so that its log line stands alone."""
        notify(Ended())

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the report, so that the error message stands alone."""
        notify(Ended())


class _Stopping(EarlyStopping):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Train no further epoch if the resumed job was stopped after its last epoch, while it wrote the artifact."""
        trainer.should_stop = self.wait_count >= self.patience


def _loader(batch: Batch, sampler: Sampler[list[int]], gpu: bool) -> DataLoader[Any]:
    # A loader draws a random number when an epoch starts. From the global generator, a resumed job would draw others.
    own = torch.Generator()
    return DataLoader(BatchRows(batch), batch_size=None, sampler=sampler, pin_memory=gpu, generator=own)
