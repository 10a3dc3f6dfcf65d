"""Metrics of a model on the validation rows, with torchmetrics, and the log line of each epoch."""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Literal

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import AUROC, Accuracy, F1Score

from bsm_core.models.batch import Batch

log = logging.getLogger("bsm")

MODES = {"log_loss": "min", "auroc": "max", "f1": "max", "accuracy": "max"}
"""Metrics by name, and whether the best value is the lowest (``"min"``) or the highest (``"max"``)."""


def measure(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of some rows.

    With two classes, AUROC and F1 are computed for class 1. With more classes, they are means over the classes. AUROC
    is NaN if a class has no rows. Accuracy is the share of rows whose most probable class is correct. Log loss is the
    mean of ``-log p`` of the correct class, in nats.

    Args:
        probabilities: Probability of each class, float ``[rows, classes]``.
        labels: Class indices, int64 ``[rows]``.
    """
    classes = probabilities.shape[1]
    task: Literal["binary", "multiclass"] = "binary" if classes == 2 else "multiclass"
    scores = (probabilities[:, 1] if classes == 2 else probabilities).float()
    has_every_class = bool(labels.bincount(minlength=classes).all())
    losses = -probabilities.gather(1, labels[:, None]).clamp(min=1e-15).log()
    return {
        "log_loss": float(losses.float().mean()),
        "auroc": float(AUROC(task, num_classes=classes)(scores, labels)) if has_every_class else math.nan,
        "f1": float(F1Score(task, num_classes=classes, average="macro")(scores, labels)),
        "accuracy": float(Accuracy(task, num_classes=classes)(scores, labels)),
    }


class History(Callback):
    """Callback that measures each epoch on the validation rows and logs a line.

    Attributes:
        epochs: ``epoch`` (from 1), ``train_loss`` and the metrics of the validation rows, for each finished epoch.
        seconds: Wall time of each epoch that this process trained, without validation.

    Args:
        seed: Seed of the job.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epochs: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.epochs = list(state_dict["epochs"])

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Reset the counts, and seed the epoch, so that a resumed job draws the same random numbers."""
        torch.manual_seed(self.seed + trainer.current_epoch)
        self._loss, self._rows = 0.0, 0
        self._scored: list[tuple[Tensor, Tensor]] = []
        self._measured: dict[str, float] = {}
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Add the loss of a batch, and store the time of the epoch so far."""
        self._loss += float(outputs["loss"]) * batch.rows
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
        self.seconds.append(self._seconds)
        self.epochs.append({"epoch": len(self.epochs) + 1, **measured})
        log.info("epoch %d: %s", len(self.epochs), as_text(measured))


def as_text(metrics: dict[str, float]) -> str:
    """Return metrics as text, such as ``AUROC 0.9312, log loss 0.2811``."""
    names = {"auroc": "AUROC", "f1": "F1"}
    return ", ".join(f"{names.get(key, key.replace('_', ' '))} {value:.4f}" for key, value in metrics.items())
