"""Names of the metrics."""

from __future__ import annotations

from typing import Literal, get_args

MetricName = Literal["auroc", "average_precision", "log_loss", "brier", "ece", "f1", "precision", "recall", "accuracy"]
"""Key of a metric."""
METRICS: tuple[str, ...] = get_args(MetricName)
"""Keys of the metrics, in the order in which they are shown."""
LOWEST_IS_BEST = frozenset(["log_loss", "brier", "ece"])
"""Metrics of which a lower value is better; of all others, a higher one."""
OF_EVERY_CLASS = frozenset(["auroc", "average_precision", "f1", "precision", "recall"])
"""Metrics that are not defined for a class without rows."""
_TITLES = {"auroc": "AUROC", "brier": "Brier score", "ece": "ECE", "f1": "F1"}


def title_of(metric: str) -> str:
    """Return a metric's name for people."""
    return _TITLES.get(metric, metric.replace("_", " "))
