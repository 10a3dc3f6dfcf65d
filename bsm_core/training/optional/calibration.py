"""Calibration: one temperature that makes the probabilities of an overconfident model agree with its accuracy.

Temperature scaling divides all logits by one number (Guo et al., 2017, arXiv:1706.04599). The most probable class of
each row stays the same. With two classes, so does the order of the rows by their probability.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.training.metrics import measure

log = logging.getLogger("bsm")

Floats = npt.NDArray[np.float64]
FEW_ROWS = 100
"""Number of rows below which a warning says that the temperature is imprecise."""
LOWEST, HIGHEST = 0.05, 20.0
"""Limits of the search for a temperature."""
_ROWS = 1024
_MOST_STEPS = 100
_SHOWN = ("ece", "log_loss", "brier")


def logits_of(model: ModelBase, batch: Batch, *, gpu: bool = False) -> Floats:
    """Return the logits of a batch in evaluation mode, float64 ``[rows, classes]``.

    Args:
        model: The model; afterwards it is on the CPU, in evaluation mode.
        batch: The rows.
        gpu: Whether to compute on a GPU instead of the CPU.
    """
    model.eval().to("cuda" if gpu else "cpu")
    starts = range(0, batch.rows, _ROWS)
    with torch.inference_mode():
        parts = (batch.select(torch.arange(at, min(batch.rows, at + _ROWS))).to(model.device) for at in starts)
        found = [model(part).double().cpu().numpy() for part in parts]
    model.to("cpu")
    return np.concatenate(found)


def fit_temperature(logits: Floats, labels: npt.NDArray[np.int64]) -> float | None:
    """Return the temperature with the lowest log loss; None if there is none between 0.05 and 20.

    There is none if every row is classified correctly, because any lower temperature then lowers the log loss, or if
    the logits say nothing about the labels. The log loss is convex in the inverse temperature; Newton's method, kept
    within bounds, finds its minimum.

    Args:
        logits: Float64 ``[rows, classes]``.
        labels: Class indices, int64 ``[rows]``.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    correct = shifted[np.arange(len(labels)), labels]

    def slopes(inverse: float) -> tuple[float, float]:
        """Return the first and second derivative of the mean log loss."""
        weights = np.exp(inverse * shifted)
        weights /= weights.sum(axis=1, keepdims=True)
        means = (weights * shifted).sum(axis=1)
        return float((means - correct).mean()), float(((weights * shifted**2).sum(axis=1) - means**2).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if not slopes(low)[0] < 0 < slopes(high)[0]:
        return None
    inverse = 1.0
    for _ in range(_MOST_STEPS):
        slope, curvature = slopes(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1 / inverse


def calibrate(logits: Floats, labels: npt.NDArray[np.int64], rows: str = "validation rows") -> dict[str, Any]:
    """Fit a temperature, and say in the log what it changes.

    Args:
        logits: Float64 ``[rows, classes]``.
        labels: Class indices, int64 ``[rows]``.
        rows: What the rows are, for the log and for the result.

    Returns:
        ``rows`` (which and how many), ``temperature`` (1.0 if none can be found), and log loss, Brier score and ECE of
        these rows ``before`` and ``after``.
    """
    temperature = fit_temperature(logits, labels)
    if temperature is None:
        log.warning(
            "calibrate: no temperature fits the %s %s, because all are classified correctly or the model learned "
            "nothing; the scores stay as they are",
            f"{len(labels):,}",
            rows,
        )
    elif len(labels) < FEW_ROWS:
        log.warning("calibrate: %d %s are few; with %d or more, the temperature is better", len(labels), rows, FEW_ROWS)
    scale = temperature or 1.0
    before, after = (_measured(logits, labels, each) for each in (1.0, scale))
    log.info(
        "calibrated on %s %s: temperature %.3f; ECE %.4f before, %.4f after; log loss %.4f before, %.4f after",
        *(f"{len(labels):,}", rows, scale, before["ece"], after["ece"], before["log_loss"], after["log_loss"]),
    )
    return {"rows": rows, "count": len(labels), "temperature": scale, "before": before, "after": after}


def _measured(logits: Floats, labels: npt.NDArray[np.int64], temperature: float) -> dict[str, float]:
    probabilities = (torch.from_numpy(logits) / temperature).softmax(dim=-1)
    found = measure(probabilities, torch.from_numpy(labels))
    return {name: found[name] for name in _SHOWN}
