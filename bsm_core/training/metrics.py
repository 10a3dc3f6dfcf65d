"""Metrics of a model on the validation rows, and the log line of each epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bsm_core.errors import DivergedError, ModelFailedError
from bsm_core.metrics.measure import measure as measured
from bsm_core.metrics.names import LOWEST_IS_BEST, METRICS, title_of
from bsm_core.models.batch import Batch

log = logging.getLogger("bsm")

_SHOWN = ("train_loss", "log_loss", "auroc", "f1", "accuracy")
"""Metrics in the log line of an epoch; the one that chooses the best epoch is added."""


def mode_of(metric: str) -> Literal["min", "max"]:
    """Return whether the best value of a metric is the lowest or the highest."""
    return "min" if metric in LOWEST_IS_BEST else "max"


def measure(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of some rows by name, as ``bsm evaluate`` computes them.

    With two classes, they are those of class 1. With more, log loss, Brier score, ECE and accuracy are those of all
    classes together, and the others are means over the classes that have rows. NaN: the metric is not defined.

    Args:
        probabilities: Probability of each class, float ``[rows, classes]``.
        labels: Class indices, int64 ``[rows]``.
    """
    names = [str(index) for index in range(probabilities.shape[1])]
    found = measured(probabilities.double().numpy(), labels.numpy(), names, resamples=0, seed=0)
    values = {**(found.macro or {}), **found.metrics}
    return {name: math.nan if (value := values[name].value) is None else value for name in METRICS}


class History(Callback):
    """Callback that measures each epoch on the validation rows and logs a line.

    Attributes:
        was_finite: Whether the loss of an earlier step was finite.
        epochs: ``epoch`` (from 1), ``train_loss`` and the metrics of the validation rows, for each finished epoch.
        seconds: Wall time of each epoch that this process trained, without validation.

    Args:
        seed: Seed of the job.
        monitor: Metric that chooses the best epoch.
    """

    def __init__(self, seed: int, monitor: str = "log_loss") -> None:
        self.seed, self.monitor = seed, monitor
        self.was_finite = False
        self.epochs: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.epochs = list(state_dict["epochs"])
        self.was_finite = bool(self.epochs)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Reset the counts, and seed the epoch, so that a resumed job draws the same random numbers."""
        torch.manual_seed(self.seed + trainer.current_epoch)
        self._loss, self._rows = 0.0, 0
        self._scored: list[tuple[Tensor, Tensor]] = []
        self._measured: dict[str, float] = {}
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Add the loss of a batch, and store the time of the epoch so far.

        Raises:
            DivergedError: The loss is NaN or infinite after finite ones, and so are weights.
            ModelFailedError: The same without a finite loss before.
        """
        # Lightning has divided the loss by the number of batches whose gradients are added up.
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        # In '16-mixed', a step with such a loss is skipped.
        if not (math.isfinite(loss) or all(weights.isfinite().all() for weights in pl_module.parameters())):
            if self.was_finite:
                raise DivergedError(f"the loss is {loss} in step {trainer.global_step}")
            cls = type(pl_module)
            raise ModelFailedError(
                f"model class {cls.__name__!r} returned logits whose loss is {loss} in step {trainer.global_step}",
                where=f"{cls.__module__}:{cls.__qualname__}",
                fix="look for very large numbers in the features, which scaling 'robust' or 'quantile' bounds, and for "
                "divisions by zero in the model class",
            )
        self.was_finite = self.was_finite or math.isfinite(loss)
        self._loss += loss * batch.rows
        self._rows += batch.rows
        self._seconds = time.monotonic() - self._began

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add the probabilities of a batch."""
        self._scored.append((outputs.cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compute the metrics, and log them for early stopping and the checkpoint."""
        probabilities, labels = map(torch.cat, zip(*self._scored, strict=True))
        self._measured = measure(probabilities, labels)
        pl_module.log_dict(self._measured)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Store and log the metrics of the epoch."""
        measured = {"train_loss": self._loss / self._rows, **self._measured}
        pl_module.log("train_loss_epoch", measured["train_loss"])
        self.seconds.append(self._seconds)
        self.epochs.append({"epoch": len(self.epochs) + 1, **measured})
        log.info("epoch %d: %s", len(self.epochs), as_text(shown(measured, self.monitor)))


def shown(metrics: Mapping[str, float], monitor: str) -> dict[str, float]:
    """Return the metrics that a log line has: a few, and the one that chooses the best epoch."""
    return {name: metrics[name] for name in dict.fromkeys((*_SHOWN, monitor)) if name in metrics}


def as_text(metrics: Mapping[str, float]) -> str:
    """Return metrics as text, such as ``AUROC 0.9312, log loss 0.2811``."""
    return ", ".join(f"{title_of(key)} {value:.4f}" for key, value in metrics.items())
