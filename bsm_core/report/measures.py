"""Metrics and curves of labeled rows, from counts in fixed bins that merge by addition.

A probability is counted in one of 65,536 bins of its log-odds, so areas under curves are exact to four digits, however
close to 0 or 1 the probabilities lie. Sums of losses, the confusion matrix and the counts at thresholds are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.report.statistics import MOST_CLASSES, FloatArray, IntArray

_BINS, _LARGEST = 65_536, 20.0
"""Number of bins of the log-odds, and the largest log-odds that is told from larger ones (a probability of 2e-9)."""
CALIBRATION_BINS = 15
"""Number of bins of equal width of the calibration curve and of the expected calibration error."""
_STEPS = 100
"""Thresholds are multiples of 1/100."""
THRESHOLDS = tuple(step / 10 for step in range(1, 10))
_MOST_CONFUSED = 100
_POINTS = 200
"""Largest number of points of a curve."""
_LEAST = 1e-15
"""Probabilities are clipped to this value for the log loss."""


class Curves(NamedTuple):
    """Curves of one class against all others.

    Attributes:
        positives, negatives: Number of rows of the class, and of the others.
        auroc: Area under the ROC curve; NaN without rows of both kinds.
        average_precision: Mean of the precision over the recall; NaN without rows of the class.
        roc: Points ``[points, 2]``: share of the negatives and of the positives above a threshold.
        precision_recall: Points ``[points, 2]``: recall and precision.
        calibration: For each bin with rows: mean probability, share of rows of the class, number of rows.
        calibration_error: Mean absolute difference of both, weighted by rows.
    """

    positives: int
    negatives: int
    auroc: float
    average_precision: float
    roc: FloatArray
    precision_recall: FloatArray
    calibration: list[tuple[float, float, int]]
    calibration_error: float


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


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass
class Measured:
    """Counts of labeled rows.

    Args:
        classes: Number of classes.

    Attributes:
        rows: Number of rows.
        unscored: Labeled rows without probabilities, which are not among ``rows``.
        confusion: Rows by class and predicted class, int64 ``[classes, classes]``; without cells for more than 100
            classes.
    """

    classes: int
    rows: int = 0
    unscored: int = 0
    right: int = 0
    log_loss_sum: float = 0.0
    brier_sum: float = 0.0
    confusion: IntArray = field(init=False)

    def __post_init__(self) -> None:
        counted = self.classes if self.classes <= _MOST_CONFUSED else 0
        self.confusion = np.zeros((counted, counted), np.int64)
        shown = min(self.classes, MOST_CLASSES)
        self._bins = np.zeros((shown, 2, _BINS), np.int64)
        self._steps = np.zeros((2, _STEPS + 1), np.int64)
        self._calibration = np.zeros((shown + 1, 3, CALIBRATION_BINS))

    def add(self, probabilities: FloatArray, labels: npt.NDArray[np.integer]) -> None:
        """Count rows.

        Args:
            probabilities: Float64 ``[rows, classes]``; NaN in rows without probabilities.
            labels: Class of each row, ``[rows]``; rows with a negative number have no label and are passed over.
        """
        labeled = labels >= 0
        scored = labeled & ~np.isnan(probabilities[:, 0])
        self.unscored += int(labeled.sum() - scored.sum())
        p, truth = probabilities[scored], labels[scored].astype(np.int64)
        if not len(truth):
            return
        predicted = p.argmax(axis=1)
        self.rows += len(truth)
        self.right += int((predicted == truth).sum())
        if len(self.confusion):
            cells = np.bincount(truth * self.classes + predicted, minlength=self.classes**2)
            self.confusion += cells.reshape(self.classes, -1)
        own = p[np.arange(len(truth)), truth]
        self.log_loss_sum -= float(np.log(np.clip(own, _LEAST, 1.0)).sum())
        self.brier_sum += self._brier(p, own, truth)
        for number in range(len(self._bins)):
            self._count(number, p[:, number], truth == number)
        largest = p.max(axis=1)
        self._calibrate(len(self._bins), largest, predicted == truth)
        main, positive = (p[:, 1], truth == 1) if self.classes == 2 else (largest, predicted == truth)
        places = np.clip(np.floor(main * _STEPS + 1e-9).astype(np.int64), 0, _STEPS)
        for side in (0, 1):
            self._steps[side] += np.bincount(places[positive == bool(side)], minlength=_STEPS + 1)

    def _brier(self, p: FloatArray, own: FloatArray, truth: IntArray) -> float:
        """Return the sum of the Brier scores: with two classes of class 1, else over all classes."""
        if self.classes == 2:
            return float(((p[:, 1] - truth) ** 2).sum())
        return float(((p**2).sum(axis=1) - 2 * own + 1).sum())

    def _count(self, number: int, p: FloatArray, positive: npt.NDArray[np.bool_]) -> None:
        with np.errstate(divide="ignore"):
            odds = np.log(p) - np.log1p(-p)
        places = np.clip(((odds + _LARGEST) * (_BINS / (2 * _LARGEST))).clip(0, _BINS - 1).astype(np.int64), 0, None)
        for side in (0, 1):
            self._bins[number, side] += np.bincount(places[positive == bool(side)], minlength=_BINS)
        self._calibrate(number, p, positive)

    def _calibrate(self, number: int, p: FloatArray, positive: npt.NDArray[np.bool_]) -> None:
        places = np.clip((p * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
        for row, weights in enumerate((None, p, positive)):
            self._calibration[number, row] += np.bincount(places, weights, minlength=CALIBRATION_BINS)

    @property
    def measured_classes(self) -> Sequence[int]:
        """Numbers of the classes that have curves: class 1 of two, else the first 20."""
        return [1] if self.classes == 2 else range(len(self._bins))

    @property
    def accuracy(self) -> float:
        """Share of the rows whose most probable class is right."""
        return _ratio(self.right, self.rows)

    @property
    def log_loss(self) -> float:
        """Mean of ``-log p`` of the right class, in nats."""
        return _ratio(self.log_loss_sum, self.rows)

    @property
    def brier(self) -> float:
        """Mean Brier score: of class 1 with two classes, else summed over the classes."""
        return _ratio(self.brier_sum, self.rows)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: of class 1 with two classes, else of the largest probability."""
        return _calibration_of(self._calibration[1 if self.classes == 2 else -1])[1]

    @property
    def confidence(self) -> list[tuple[float, float, int]]:
        """Calibration of the largest probability, see :class:`Curves`."""
        return _calibration_of(self._calibration[-1])[0]

    def curves(self, number: int) -> Curves:
        """Return the curves of a class against all others."""
        negatives, positives = self._bins[number, :, ::-1]  # the most probable first
        totals = int(positives.sum()), int(negatives.sum())
        true, false = np.cumsum(positives), np.cumsum(negatives)
        recall, fall_out = true / max(totals[0], 1), false / max(totals[1], 1)
        rise = np.diff(np.concatenate([[0.0], recall]))
        precision = true / np.maximum(true + false, 1)
        before = np.concatenate([[0.0], recall[:-1]])
        area = float((np.diff(np.concatenate([[0.0], fall_out])) * (before + recall) / 2).sum())
        used = np.flatnonzero(positives + negatives)
        roc = np.vstack([[0.0, 0.0], np.column_stack([fall_out, recall])[used]])
        points = np.column_stack([recall, precision])[used]
        calibration, error = _calibration_of(self._calibration[number])
        return Curves(
            *totals,
            auroc=area if all(totals) else float("nan"),
            average_precision=float((rise * precision).sum()) if totals[0] else float("nan"),
            roc=_thinned(roc),
            precision_recall=_thinned(points),
            calibration=calibration,
            calibration_error=error,
        )

    def at(self, threshold: float) -> AtThreshold:
        """Return the counts at a threshold of class 1; with more than two classes, of the largest probability.

        With more than two classes, a row counts as positive if its most probable class is right.

        Args:
            threshold: A multiple of 0.01.
        """
        step = round(threshold * _STEPS)
        (false_positives, true_positives), (negatives, positives) = (
            self._steps[:, step:].sum(axis=1).tolist(),
            self._steps.sum(axis=1).tolist(),
        )
        rest = positives - true_positives, negatives - false_positives
        return AtThreshold(step / _STEPS, true_positives, false_positives, *rest)

    def best_threshold(self) -> AtThreshold:
        """Return the counts at the threshold with the highest F1; of several, at the one that is closest to 0.5."""
        nearest = sorted(range(1, _STEPS), key=lambda step: abs(2 * step - _STEPS))
        return max((self.at(step / _STEPS) for step in nearest), key=lambda found: np.nan_to_num(found.f1))


def _calibration_of(sums: FloatArray) -> tuple[list[tuple[float, float, int]], float]:
    rows, scores, positives = sums
    used = np.flatnonzero(rows)
    points = [(float(scores[i] / rows[i]), float(positives[i] / rows[i]), int(rows[i])) for i in used]
    total = rows.sum()
    return points, float(np.abs(scores - positives).sum() / total) if total else float("nan")


def _thinned(points: FloatArray) -> FloatArray:
    """Return at most 200 points of a curve that lie about evenly along it, with both ends."""
    if len(points) <= _POINTS:
        return points
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    wanted = np.searchsorted(lengths, np.linspace(0, lengths[-1], _POINTS - 1))
    kept: FloatArray = points[np.unique(np.concatenate([[0], wanted.clip(0, len(points) - 1), [len(points) - 1]]))]
    return kept
