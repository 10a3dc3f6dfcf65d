"""Metrics of one question with two answers, such as "is the row of class 1?", exact and for many resamples at once.

Every metric is a function of sums over rows, so the metrics of a resample need only the sums of its rows:

- AUROC and average precision need the number of rows of each answer at each score (:class:`Ranking`);
- all other metrics need a few sums over all rows (:class:`Question`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bsm_core.metrics.bootstrap import Draws, Floats

BINS = 15
"""Number of bins of equal width, from 0 to 1, for the ECE."""
_MOST_SCORES = 2048
"""Largest number of different scores of which each is counted on its own in resamples."""
_LEAST_P = float(np.finfo(np.float64).eps)
"""Least probability in a log loss, the one of scikit-learn: the logarithm of 0 is infinite."""


def log_losses(probabilities: Floats) -> Floats:
    """Return ``-log p`` in nats, for probabilities of the correct answer."""
    losses: Floats = -np.log(np.clip(probabilities, _LEAST_P, 1 - _LEAST_P))
    return losses


def bins_of(probabilities: Floats) -> npt.NDArray[np.intp]:
    """Return the bin of each probability for the ECE, ``[rows]``.

    These are the bins of torchmetrics: the first edge belongs to a bin, and a probability of 1 has a bin of its own.
    """
    bins: npt.NDArray[np.intp] = np.searchsorted(np.linspace(0, 1, BINS + 1), probabilities, side="right") - 1
    return bins


class Ranking:
    """Rows of the two answers at each score, in ascending order of the scores.

    Scores of negative rows alone, between two scores of positive rows, are counted together: no metric depends on their
    order. Apart from this, the exact metrics count each different score on its own. Resamples do so for up to
    :data:`_MOST_SCORES` scores; of more, neighbors are counted together, as if they were equal. They are chosen along
    the ROC curve: whatever the number of rows, a group of neighbors holds at most 1/512 of the positive and of the
    negative rows, and if one of the answers has fewer than 512 rows, the scores of its rows are never counted together
    with others. What this changes in a metric is small and the same in all resamples, so an interval does not contain
    it (see :func:`~bsm_core.metrics.bootstrap.estimate`).

    Args:
        scores: Score of each row, ``[rows]``; the higher, the more likely is the positive answer.
        positive: Whether the positive answer is correct, bool ``[rows]``.
    """

    def __init__(self, scores: Floats, positive: npt.NDArray[np.bool_]) -> None:
        _, place = np.unique(scores, return_inverse=True)
        has_positive = np.bincount(place, weights=positive) > 0
        begins = has_positive[1:] | has_positive[:-1]
        place = np.concatenate([[0], np.cumsum(begins)])[place]
        rows = np.bincount(place)
        self.positives = np.bincount(place, weights=positive).astype(np.float64)
        self.negatives = rows - self.positives
        self._positive = positive
        groups = self._groups() if len(rows) > _MOST_SCORES else np.arange(len(rows))
        self._count = int(groups[-1]) + 1
        self._group = groups[place]

    def _groups(self) -> npt.NDArray[np.intp]:
        """Return the group of each score. A score whose rows reach the next 1/512 is a group of its own."""
        step = sum(n / max(n.sum(), 1) * (_MOST_SCORES // 4) for n in (self.positives, self.negatives))
        end = np.cumsum(step)
        alone = np.floor(end) != np.floor(end - step)
        begins = alone | np.concatenate([[False], alone[:-1]])
        begins[0] = False
        return np.cumsum(begins)

    def metrics(self) -> dict[str, Floats]:
        """Return the exact metrics, ``[1]``."""
        return ranking_metrics(self.positives[None], self.negatives[None])

    def resampled(self, draws: Draws) -> dict[str, Floats]:
        """Return the metrics of resamples, ``[resamples]``."""
        counts = (draws.counts(self._group, self._count, mask) for mask in (self._positive, ~self._positive))
        return ranking_metrics(*counts)


def ranking_metrics(positives: Floats, negatives: Floats) -> dict[str, Floats]:
    """Return AUROC and average precision; NaN where a metric is not defined.

    AUROC is the share of the pairs of a positive and a negative row in which the positive row has the higher score; a
    pair of equal scores counts half. Average precision is the mean, over the positive rows, of the precision among the
    rows that have at least the score of that row.

    Args:
        positives, negatives: Numbers of rows at each score, ``[samples, scores]``, in ascending order of the scores.
    """
    all_positives, all_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    found, rest = (np.cumsum(n[:, ::-1], axis=1)[:, ::-1] for n in (positives, negatives))
    precision = found / np.maximum(found + rest, 1)
    return {
        "auroc": divided(wins, all_positives * all_negatives),
        "average_precision": divided((positives * precision).sum(axis=1), all_positives),
    }


@dataclass(frozen=True)
class Question:
    """A question with two answers about each row.

    Attributes:
        scores: Probability of the positive answer, ``[rows]``.
        positive: Whether the positive answer is correct, bool ``[rows]``.
        predicted: Whether the positive answer is the predicted one, bool ``[rows]``.
        losses: Log loss of each row, ``[rows]``.
        squares: Squared error of each row, ``[rows]``.
    """

    scores: Floats
    positive: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.bool_]
    losses: Floats
    squares: Floats

    @classmethod
    def of_class(
        cls, probabilities: Floats, positive: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]
    ) -> Question:
        """Return the question whether a row is of a class, given the probabilities of that class."""
        losses = log_losses(np.where(positive, probabilities, 1 - probabilities))
        return cls(probabilities, positive, predicted, losses, (probabilities - positive) ** 2)

    def sums(self, draws: Draws | None = None) -> dict[str, Floats]:
        """Return the sums that :func:`metrics_of_sums` needs.

        Args:
            draws: The resamples. None: all rows, each once.
        """
        columns: dict[str, Floats] = {
            "rows": np.ones(len(self.scores)),
            "positive": self.positive.astype(float),
            "predicted": self.predicted.astype(float),
            "hits": (self.positive & self.predicted).astype(float),
            "losses": self.losses,
            "squares": self.squares,
        }
        bins = bins_of(self.scores)
        gaps = self.scores - self.positive
        if draws is None:
            sums = {name: np.array([column.sum()]) for name, column in columns.items()}
            return {**sums, "gaps": np.bincount(bins, weights=gaps, minlength=BINS + 1)[None]}
        sums = dict(zip(columns, draws.sums([*columns.values()]).T, strict=True))
        return {**sums, "gaps": draws.sums_of_bins(gaps, bins, BINS + 1)}


def metrics_of_sums(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the metrics of a question but AUROC and average precision, ``[samples]``; NaN where one is not defined.

    As in scikit-learn and torchmetrics, the precision of an answer that is never predicted, and the recall of one that
    is never correct, count as 0 unless both is so.
    """
    rows, positive, predicted, hits = (sums[name] for name in ("rows", "positive", "predicted", "hits"))
    return {
        "log_loss": divided(sums["losses"], rows),
        "brier": divided(sums["squares"], rows),
        "ece": divided(np.abs(sums["gaps"]).sum(axis=1), rows),
        "f1": divided(2 * hits, positive + predicted),
        "precision": divided(hits, np.where(positive > 0, np.maximum(predicted, 1), predicted)),
        "recall": divided(hits, np.where(predicted > 0, np.maximum(positive, 1), positive)),
        "accuracy": divided(rows - positive - predicted + 2 * hits, rows),
    }


def divided(a: Floats, b: Floats) -> Floats:
    """Return ``a / b``, and NaN where ``b`` is 0."""
    quotients: Floats = np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)
    return quotients
