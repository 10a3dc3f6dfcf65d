"""Metrics of probabilities against labels, of all rows, of each class, and averaged over the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.metrics.bootstrap import Draws, Estimate, Floats, estimate
from bsm_core.metrics.names import METRICS
from bsm_core.metrics.questions import Question, Ranking, divided, log_losses, metrics_of_sums

_OF_ALL = ("log_loss", "brier", "ece", "accuracy")
"""Metrics that several classes have together."""
_LARGEST = {"log_loss": inf, "brier": 2.0}


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class.

    Attributes:
        index: Index of the class, the ``i`` of ``prob_class_i``.
        name: Name of the class; its label or its index if it has no name.
        rows: Number of rows of the class.
        metrics: Metrics of the question whether a row is of the class, by name. Empty for two classes.
    """

    index: int
    name: str
    rows: int
    metrics: dict[str, Estimate]


class Measured(NamedTuple):
    """Metrics of probabilities.

    Attributes:
        metrics: Metrics of all rows, by name: of two classes, those of class 1; of more, those that have a meaning
            without an average over the classes.
        classes: The classes, in order.
        macro, weighted: Means over the classes: each counts the same, or as often as it has rows. None for two classes.
    """

    metrics: dict[str, Estimate]
    classes: list[ClassMetrics]
    macro: dict[str, Estimate] | None
    weighted: dict[str, Estimate] | None


class _Samples(NamedTuple):
    """Metrics of all rows or of resamples, ``[samples]`` each, and the rows that are, or are predicted, positive."""

    metrics: dict[str, Floats]
    positive: Floats
    predicted: Floats


def measure(
    probabilities: Floats, labels: npt.NDArray[np.intp], names: Sequence[str], resamples: int, seed: int
) -> Measured:
    """Return the metrics of some rows.

    Args:
        probabilities: Probability of each class, ``[rows, classes]``, with at least one row and two classes.
        labels: Class index of each row, ``[rows]``.
        names: Name of each class.
        resamples: Number of bootstrap resamples; 0 for no intervals.
        seed: Seed of the resamples.
    """
    draws = Draws(len(labels), resamples, seed) if resamples else None
    predicted, rows = probabilities.argmax(axis=1), np.bincount(labels, minlength=len(names)).tolist()
    correct = probabilities[np.arange(len(labels)), labels]
    if len(names) == 2:
        question = replace(
            Question.of_class(probabilities[:, 1], labels == 1, predicted == 1), losses=log_losses(correct)
        )
        metrics = _estimates(*_samples(question, draws), names[1])
        return Measured(metrics, [ClassMetrics(i, name, rows[i], {}) for i, name in enumerate(names)], None, None)
    squares = (probabilities**2).sum(axis=1) - 2 * correct + 1
    hit = predicted == labels
    is_right = Question(probabilities.max(axis=1), hit, np.ones_like(hit), log_losses(correct), squares)
    of_all = _estimates(*_samples(is_right, draws, ranked=False), "", _OF_ALL)
    exact, resampled, classes = [], [], []
    for i, name in enumerate(names):
        question = Question.of_class(probabilities[:, i], labels == i, predicted == i)
        whole, drawn = _samples(question, draws)
        for each in filter(None, (whole, drawn)):
            each.metrics["accuracy"] = np.where(each.positive > 0, each.metrics["recall"], np.nan)
        exact.append(whole)
        resampled += [drawn] if drawn else []
        classes.append(ClassMetrics(i, name, rows[i], _estimates(whole, drawn, name)))
    macro, weighted = (_means(exact, resampled, weigh) for weigh in (np.ones_like, np.asarray))
    return Measured(of_all, classes, macro, weighted)


def _samples(question: Question, draws: Draws | None, ranked: bool = True) -> tuple[_Samples, _Samples | None]:
    """Return the metrics of all rows, and those of the resamples; with AUROC and average precision if ``ranked``."""
    sums = question.sums()
    whole = _Samples(metrics_of_sums(sums), sums["positive"], sums["predicted"])
    ranking = Ranking(question.scores, question.positive) if ranked else None
    if ranking:
        whole.metrics.update(ranking.metrics())
    if draws is None:
        return whole, None
    sums = question.sums(draws)
    drawn = _Samples(metrics_of_sums(sums), sums["positive"], sums["predicted"])
    if ranking:
        drawn.metrics.update(ranking.resampled(draws))
    return whole, drawn


def _estimates(
    whole: _Samples, drawn: _Samples | None, name: str, metrics: Sequence[str] = METRICS
) -> dict[str, Estimate]:
    """Return the metrics of the class of a name, or of all rows."""
    found = {}
    for metric in metrics:
        value, resampled = float(whole.metrics[metric][0]), drawn.metrics[metric] if drawn else None
        note = _note(metric, np.isnan(value), name, bool(whole.positive[0]), bool(whole.predicted[0]))
        found[metric] = estimate(value, resampled, note, _LARGEST.get(metric, 1.0))
    return found


def _note(metric: str, undefined: bool, name: str, has_rows: bool, is_predicted: bool) -> str:
    """Return why a metric of a class is not defined, or is 0 without a row that it could count."""
    of_class = name if name.startswith("class ") else f"class {name!r}"
    if metric == "precision" and not is_predicted:
        return f"no row is predicted as {of_class}"
    if metric == "recall" and not has_rows:
        return f"no row is of {of_class}"
    if not undefined:
        return ""
    if metric == "f1":
        return f"no row is of {of_class} or predicted as it"
    return f"{'all rows are' if has_rows else 'no row is'} of {of_class}"


def _means(
    exact: Sequence[_Samples], resampled: Sequence[_Samples], weigh: Callable[[Floats], Floats]
) -> dict[str, Estimate]:
    """Return the means over the classes. A class for which a metric is not defined is not in its mean.

    Args:
        exact: Metrics of all rows, of each class.
        resampled: Metrics of the resamples, of each class; empty if there are none.
        weigh: Function that returns the weights of the classes, given their numbers of rows.
    """
    found = {}
    for name in METRICS:
        missing = sum(bool(np.isnan(each.metrics[name][0])) for each in exact)
        mean = float(_mean(exact, name, weigh)[0])
        what = estimate(
            mean,
            _mean(resampled, name, weigh) if resampled else None,
            "it is defined for no class" if np.isnan(mean) else "",
            _LARGEST.get(name, 1.0),
        )
        note = f"mean of {len(exact) - missing} of {len(exact)} classes: it is not defined for the others"
        found[name] = replace(what, note=note) if missing and what.value is not None and not what.note else what
    return found


def _mean(samples: Sequence[_Samples], name: str, weigh: Callable[[Floats], Floats]) -> Floats:
    values = np.stack([each.metrics[name] for each in samples])
    weights = weigh(np.stack([each.positive for each in samples])) * np.isfinite(values)
    total = weights.sum(axis=0)
    return divided((np.nan_to_num(values) * weights).sum(axis=0), total)
