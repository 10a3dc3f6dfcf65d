"""The training loop: Lightning's Trainer, its best epoch, and going on where an earlier process stopped."""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from bsm_core.errors import BSMError, EngineError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.scoring.engines.trainer import quiet
from bsm_core.training.data import BatchRows, ShuffledBatches
from bsm_core.training.metrics import MODES, History
from bsm_core.training.training_config import TrainingConfig

log = logging.getLogger("bsm")

_VALIDATION_ROWS = 1024
LAST = "last.ckpt"
_AS_ASKED_FOR = (".*have no `val_dataloader`", "Checkpoint directory .* exists and is not empty")


@dataclass(frozen=True)
class Fitted:
    """What the loop found.

    Attributes:
        weights: The state dict of the best epoch, on the CPU; of the last one where nothing was held out.
        best: Which epoch that was, from 0.
        epochs: As in :class:`History`.
        seconds: The same.
    """

    weights: dict[str, Tensor]
    best: int
    epochs: list[dict[str, float]]
    seconds: list[float]


def fit(
    model: ModelBase,
    train: Batch,
    validation: Batch | None,
    config: TrainingConfig,
    folder: Path,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
) -> Fitted:
    """Train a model; if the folder has a checkpoint, from there on.

    The same seed gives the same weights on one machine, with one number of threads; so does a job that was stopped
    between two epochs, or in the middle of one, and run again.

    Args:
        model: The model, with its first weights.
        train: All rows to train on, with labels.
        validation: Rows to measure on after each epoch, with labels, if any.
        config: The training job's.
        folder: Where checkpoints go.
        accelerator: As Lightning names them; one device is used.
    """
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    history, checkpoints = History(model.config.num_classes, config.seed), _checkpoints(folder, config, validation)
    callbacks: list[Callback] = [history, *checkpoints]
    if validation is not None:
        callbacks.append(_early_stopping(config))
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar())
    last = folder / LAST
    if last.exists():
        log.info("going on from %s", last)
    held = None if validation is None else _validation_loader(validation, gpu)
    with quiet(), _alone():
        trainer = pl.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            plugins=[LightningEnvironment()],  # the process is ours; a cluster's variables mean others
            precision=config.precision,
            max_epochs=config.max_epochs,
            gradient_clip_val=config.gradient_clip_val,
            callbacks=callbacks,
            deterministic="warn" if gpu else True,  # on a GPU some kernels have no such version
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        loaders = _training_loader(train, config, gpu), held
        with _failures(folder):
            trainer.fit(model, *loaders, ckpt_path=str(last) if last.exists() else None)
    best = torch.load(checkpoints[0].best_model_path, map_location="cpu", weights_only=True)
    return Fitted(best["state_dict"], best["epoch"], history.epochs, history.seconds)


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """What goes wrong on the way, in words."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"the device has no room for a training step: {error}",
            fix="lower batch_size, max_sen_len or max_total_chunks, or train with --accelerator cpu",
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, BSMError) or not _unreadable(folder / LAST):
            raise
        fix = f"remove the folder {folder.parent}"
        raise EngineError(f"the checkpoint cannot be read: {error}", where=str(folder / LAST), fix=fix) from error


def _unreadable(checkpoint: Path) -> bool:
    return checkpoint.exists() and not zipfile.is_zipfile(checkpoint)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep Lightning from warning of what was asked for, and from leaving the process's deterministic mode changed."""
    for message in _AS_ASKED_FOR:
        warnings.filterwarnings("ignore", message)
    mode = torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def _checkpoints(folder: Path, config: TrainingConfig, validation: Batch | None) -> list[ModelCheckpoint]:
    """What keeps the epoch whose weights are taken, and, behind it, the last one, if that is another."""
    # Not by save_last, which keeps the last epoch only where it is the best.
    last = ModelCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    if validation is None:
        return [last]
    best = ModelCheckpoint(
        folder,
        "best",
        monitor=config.monitor,
        mode=MODES[config.monitor],
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [best, last]


class _Stopping(EarlyStopping):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """A job that ended behind its last epoch, while its artifact was written, has no further one."""
        trainer.should_stop = self.wait_count >= self.patience


def _early_stopping(config: TrainingConfig) -> EarlyStopping:
    return _Stopping(
        config.monitor,
        mode=MODES[config.monitor],
        patience=config.early_stopping_patience,
        check_on_train_epoch_end=True,
    )


def _training_loader(batch: Batch, config: TrainingConfig, gpu: bool) -> DataLoader[Any]:
    sampler = ShuffledBatches(batch, config.batch_size, config.seed)
    # A loader draws a number when it is begun, which in a resumed job is at another time: not from our generator.
    own = torch.Generator()
    return DataLoader(BatchRows(batch), batch_size=None, sampler=sampler, pin_memory=gpu, generator=own)


def _validation_loader(batch: Batch, gpu: bool) -> DataLoader[Any]:
    starts = range(0, batch.rows, _VALIDATION_ROWS)
    rows = [list(range(start, min(start + _VALIDATION_ROWS, batch.rows))) for start in starts]
    return DataLoader(BatchRows(batch), batch_size=None, sampler=rows, pin_memory=gpu)
