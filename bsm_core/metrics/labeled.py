"""Labeled rows as a report shows them: metrics, curves, confusion, and counts at thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.metrics.bootstrap import RESAMPLES, SEED, Floats
from bsm_core.metrics.measure import Measured, measure
from bsm_core.metrics.questions import Ranking, bins_of

MOST_CURVES = 20
"""Number of classes that have curves: those with the most rows."""
THRESHOLDS = tuple(step / 10 for step in range(1, 10))
_STEPS = 100
"""Thresholds are multiples of 1/100."""
MOST_IN_MATRIX, _MOST_PAIRS = 20, 20
"""Largest number of classes with a confusion matrix, and of pairs of a class and a wrong prediction that are listed."""
_POINTS = 200
"""Largest number of points of a curve."""

Ints = npt.NDArray[np.intp]
Calibration = list[tuple[float, float, int]]
"""For each bin of probabilities with rows: mean probability, share of rows with the answer, number of rows."""


class Curves(NamedTuple):
    """Curves of one class against all others.

    Attributes:
        roc: Points ``[points, 2]``: share of the negatives and of the positives at and above a score.
        precision_recall: Points ``[points, 2]``: recall and precision.
        calibration: See :data:`Calibration`.
    """

    roc: Floats
    precision_recall: Floats
    calibration: Calibration

    @classmethod
    def of(cls, scores: Floats, positive: npt.NDArray[np.bool_]) -> Curves:
        """Return the curves of some rows.

        Args:
            scores: Probability of the class, ``[rows]``.
            positive: Whether a row is of the class, bool ``[rows]``.
        """
        ranking = Ranking(scores, positive)
        true, false = (np.cumsum(n[::-1]) for n in (ranking.positives, ranking.negatives))  # the most probable first
        recall, fall_out = true / max(true[-1], 1), false / max(false[-1], 1)
        roc = np.vstack([[0.0, 0.0], np.column_stack([fall_out, recall])])
        precision_recall = np.column_stack([recall, true / (true + false)])
        return cls(_thinned(roc), _thinned(precision_recall), calibration_of(scores, positive))


class AtThreshold(NamedTuple):
    """Counts if rows with a probability of at least ``threshold`` count as positive."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        """Share of true positives among the rows that count as positive; NaN if there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the positives that are found."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Share of the negatives that are left out."""
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def accuracy(self) -> float:
        """Share of the rows that are right."""
        return _ratio(self.true_positives + self.true_negatives, sum(self[1:]))


@dataclass(frozen=True)
class Labeled:
    """Labeled rows.

    Attributes:
        rows: Number of rows, at least one.
        names: Name of each class.
        measured: Metrics, with intervals if there are resamples.
        curves: Curves by class: of class 1 with two classes, else of the 20 with the most rows, most first.
        confidence: Calibration of the largest probability: how often the most probable class is right.
        confusion: Rows by class and predicted class, int64 ``[classes, classes]``; without cells for more than 20
            classes.
        confused: Class, predicted class and number of rows, of the 20 pairs that are confused most.
        steps: Rows by answer and hundredth of the probability, int64 ``[2, 101]``: with two classes, whether the row is
            of class 1; else whether the most probable class is right.
    """

    rows: int
    names: Sequence[str]
    measured: Measured
    curves: dict[int, Curves]
    confidence: Calibration
    confusion: npt.NDArray[np.int64]
    confused: Sequence[tuple[int, int, int]]
    steps: npt.NDArray[np.int64]

    @classmethod
    def of(cls, probabilities: Floats, labels: Ints, names: Sequence[str], *, resamples: int = RESAMPLES) -> Labeled:
        """Measure some rows.

        Args:
            probabilities: Probability of each class, ``[rows, classes]``, with at least one row and two classes.
            labels: Class index of each row, ``[rows]``.
            names: Name of each class.
            resamples: Number of bootstrap resamples; 0 for no intervals.
        """
        classes = len(names)
        predicted, largest = probabilities.argmax(axis=1), probabilities.max(axis=1)
        right = predicted == labels
        counted = classes if classes <= MOST_IN_MATRIX else 0
        cells = np.bincount(labels * classes + predicted, minlength=classes**2) if counted else np.zeros(0, np.int64)
        scores, answers = (probabilities[:, 1], labels == 1) if classes == 2 else (largest, right)
        return cls(
            rows=len(labels),
            names=names,
            measured=measure(probabilities, labels, names, resamples, SEED),
            curves={
                index: Curves.of(probabilities[:, index], labels == index)
                for index in ([1] if classes == 2 else frequent_classes(labels, classes)[:MOST_CURVES])
            },
            confidence=calibration_of(largest, right),
            confusion=cells.reshape(counted, counted),
            confused=_confused(labels[~right], predicted[~right], classes),
            steps=_steps_of(scores, answers),
        )

    def at(self, threshold: float) -> AtThreshold:
        """Return the counts at a threshold of class 1; with more than two classes, of the largest probability.

        With more than two classes, a row counts as positive if its most probable class is right.

        Args:
            threshold: A multiple of 0.01.
        """
        step = round(threshold * _STEPS)
        (false_positives, true_positives), (negatives, positives) = (
            self.steps[:, step:].sum(axis=1).tolist(),
            self.steps.sum(axis=1).tolist(),
        )
        rest = positives - true_positives, negatives - false_positives
        return AtThreshold(step / _STEPS, true_positives, false_positives, *rest)

    def best_threshold(self) -> AtThreshold:
        """Return the counts at the threshold with the highest F1; of several, at the one that is closest to 0.5."""
        nearest = sorted(range(1, _STEPS), key=lambda step: abs(2 * step - _STEPS))
        return max((self.at(step / _STEPS) for step in nearest), key=lambda found: np.nan_to_num(found.f1))


def calibration_of(scores: Floats, positive: npt.NDArray[np.bool_]) -> Calibration:
    """Return the calibration in the bins of the expected calibration error.

    Args:
        scores: Probability of an answer, ``[rows]``.
        positive: Whether the answer is correct, bool ``[rows]``.
    """
    bins = bins_of(scores)
    rows, sums, hits = (np.bincount(bins, weights) for weights in (None, scores, positive))
    return [(float(sums[i] / rows[i]), float(hits[i] / rows[i]), int(rows[i])) for i in np.flatnonzero(rows)]


def frequent_classes(labels: Ints, classes: int) -> list[int]:
    """Return the indices of all classes, those with the most rows first."""
    found: list[int] = np.argsort(-np.bincount(labels, minlength=classes), kind="stable").tolist()
    return found


def _confused(labels: Ints, predicted: Ints, classes: int) -> list[tuple[int, int, int]]:
    """Return the most frequent pairs of a class and a wrong prediction, with their rows."""
    pairs, rows = np.unique(labels * classes + predicted, return_counts=True)
    first = np.argsort(-rows, kind="stable")[:_MOST_PAIRS]
    return [
        (*divmod(pair, classes), count) for pair, count in zip(pairs[first].tolist(), rows[first].tolist(), strict=True)
    ]


def _steps_of(scores: Floats, answers: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    places = np.floor(scores * _STEPS + 1e-9).astype(np.int64)
    return np.stack([np.bincount(places[answers == side], minlength=_STEPS + 1) for side in (False, True)])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _thinned(points: Floats) -> Floats:
    """Return at most 200 points of a curve that lie about evenly along it, with both ends."""
    if len(points) <= _POINTS:
        return points
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    wanted = np.searchsorted(lengths, np.linspace(0, lengths[-1], _POINTS - 1))
    kept: Floats = points[np.unique(np.concatenate([[0], wanted.clip(0, len(points) - 1), [len(points) - 1]]))]
    return kept
