"""Names of the metrics."""

from __future__ import annotations

METRICS = (
    "auroc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
    "f1",
    "precision",
    "recall",
    "accuracy",
)
"""Keys of the metrics, in the order in which they are shown."""
_TITLES = {"auroc": "AUROC", "brier": "Brier score", "ece": "ECE", "f1": "F1"}


def title_of(metric: str) -> str:
    """Return a metric's name for people."""
    return _TITLES.get(metric, metric.replace("_", " "))
