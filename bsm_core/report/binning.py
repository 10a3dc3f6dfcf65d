"""Counting a window: what is counted, in which bins, and the statistics of the rows of one window."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.training_distributions import TrainingDistributions
from bsm_core.report.number_bins import Bins, ValueBins, bins_of
from bsm_core.report.statistics import (
    CHUNKS,
    LIMITS,
    MOST_CATEGORIES,
    MOST_CHUNKS,
    MOST_CLASSES,
    MOST_NUMBERS,
    MOST_PREDICTED,
    NUMBER,
    PREDICTED,
    PROBABILITY,
    TOKEN_EDGES,
    TOKENS,
    UNCOUNTED,
    FloatArray,
    IntArray,
    Order,
    Statistics,
    kept,
    least_certain,
    score_bins,
    series_of,
    shown_counts,
)


class TextLimits(NamedTuple):
    """Limits of the steps of a text column; what lies beyond them is not read.

    Attributes:
        tokens: Largest number of tokens of a chunk; None: no limit is known.
        chunks: Largest number of chunks of a text; None: no limit.
    """

    tokens: int | None = None
    chunks: int | None = None

    @classmethod
    def of(cls, steps: Sequence[Mapping[str, Any]]) -> TextLimits:
        """Return the limits in the parameters of some steps."""
        tokens = [used["max_sen_len"] for used in steps if used.get("max_sen_len")]
        chunks = [used["max_total_chunks"] for used in steps if used.get("max_total_chunks") and _cuts(used)]
        return cls(min(tokens, default=None), min(chunks, default=None))


def _cuts(used: Mapping[str, Any]) -> bool:
    given = used.get("chunk_truncate")
    return bool(used.get("chunk_trancate") if given is None else given)


class TextArrays(NamedTuple):
    """Chunks of the texts of a column, as :class:`bsm_core.models.batch.TextBatch` has them, without the tokens.

    Attributes:
        chunk_offsets: Position at which each distinct chunk starts, then the total; int64 ``[distinct + 1]``.
        chunk_ids: Index of the distinct chunk that equals each chunk of the rows; int64 ``[chunks]``.
        row_lengths: Number of chunks of each row; int64 ``[rows]``.
    """

    chunk_offsets: IntArray
    chunk_ids: IntArray
    row_lengths: IntArray


class NumberColumn(NamedTuple):
    """Numeric feature that is counted.

    Attributes:
        position: Its column in the feature matrix.
        bins: The bins.
        fill: Value that stands for a cell without a usable number.
    """

    position: int
    bins: Bins | ValueBins
    fill: float


@dataclass(frozen=True)
class Scored:
    """Rows of a window after they were scored.

    Attributes:
        start: Position of the first row in the whole table.
        probabilities: Float64 ``[rows, classes]``; a row with a NaN counts as not scored.
        texts: Chunks of each text column.
        features: Feature matrix, float32 ``[rows, features]``.
        counts: Counts of the window's findings, see :meth:`bsm_core.preprocess.findings.Findings.counts`.
        known, unseen: How often each category occurs, by feature: those that the risk table has, and others.
        name: Function from positions in the window to the texts of the ids.
    """

    start: int
    probabilities: FloatArray
    texts: Mapping[str, TextArrays] = field(default_factory=dict)
    features: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    counts: Mapping[str, float] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unseen: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    name: Callable[[Sequence[int]], Sequence[str]] = lambda rows: [str(row) for row in rows]


@dataclass(frozen=True)
class Binning:
    """Bins in which the windows of a run are counted.

    Attributes:
        numbers: Each numeric feature that is counted, by name.
        categories: Features with a risk table that are counted.
        texts: Limits of each text column.
        training: Distributions of training, in the same bins; None if the artifact records none.
        uncounted: Number of features that are not counted, because the model has too many.
    """

    numbers: Mapping[str, NumberColumn] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    texts: Mapping[str, TextLimits] = field(default_factory=dict)
    training: TrainingDistributions | None = None
    uncounted: int = 0

    @classmethod
    def of(
        cls,
        features: Sequence[str],
        risk_tables: Collection[str],
        fills: Mapping[str, float],
        texts: Mapping[str, TextLimits],
        training: TrainingDistributions | None = None,
    ) -> Binning:
        """Return what is counted for a model.

        Args:
            features: Names of the columns of the feature matrix, in order.
            risk_tables: Features that have a risk table.
            fills: For each other feature, the value that stands for a cell without a usable number.
            texts: Limits of each text column.
            training: Distributions of training.
        """
        positions = {name: features.index(name) for name in dict.fromkeys(features)}
        categories = [name for name in positions if name in risk_tables]
        numbers = [name for name in positions if name not in risk_tables]
        known = training.numbers if training else {}
        bins = {
            name: NumberColumn(positions[name], bins_of(known.get(name)), fills[name])
            for name in numbers[:MOST_NUMBERS]
        }
        left_out = len(numbers[MOST_NUMBERS:]) + len(categories[MOST_CATEGORIES:])
        return cls(bins, tuple(categories[:MOST_CATEGORIES]), texts, training, left_out)

    def statistics(self, window: Scored) -> Statistics:
        """Return the statistics of a window."""
        scored = _scored(window.probabilities)
        rows = np.arange(len(window.probabilities)) if scored is None else np.flatnonzero(scored)
        probabilities = window.probabilities if scored is None else window.probabilities[rows]
        bins = {f"{TOKENS}:{column}": counts for column, counts in self._tokens(window).items()}
        bins |= {f"{NUMBER}:{name}": counts for name, counts in self._numbers(window).items()}
        for column, text in window.texts.items():
            bins[f"{CHUNKS}:{column}"] = np.bincount(np.minimum(text.row_lengths, MOST_CHUNKS))
            bins[f"{LIMITS}:{column}"] = _at_limits(text, self.texts.get(column, TextLimits()))
        bins[PREDICTED] = _predicted(probabilities)
        for index, counts in enumerate(score_bins(probabilities[:, :MOST_CLASSES])):
            bins[f"{PROBABILITY}:{index}"] = counts
        return Statistics(
            rows=len(window.probabilities),
            bins=bins,
            categories=_counted(window.known, self.categories),
            unseen=_counted(window.unseen, self.categories),
            order=Order.of(window.start, series_of(window.probabilities), scored),
            least_certain=least_certain(probabilities, rows, window.start, window.name),
        )

    def _tokens(self, window: Scored) -> dict[str, IntArray]:
        found = {}
        for column, text in window.texts.items():
            tokens = _row_sums(np.diff(text.chunk_offsets)[text.chunk_ids], text.row_lengths)
            places = np.searchsorted(TOKEN_EDGES, tokens, side="right")
            found[column] = np.bincount(places, minlength=len(TOKEN_EDGES) + 1)
        return found

    def _numbers(self, window: Scored) -> dict[str, IntArray]:
        """Return the counts of the numbers of each feature.

        All cells without a usable number have the same value, so they are counted and then subtracted from its bin.
        """
        if not self.numbers or not len(window.features):
            return {}
        columns = np.ascontiguousarray(window.features.T[[column.position for column in self.numbers.values()]])
        found = {}
        for (name, column), values in zip(self.numbers.items(), columns, strict=True):
            counts = column.bins.counts(values)
            filled = int(window.counts.get(f"missing:{name}", 0) + window.counts.get(f"number:{name}", 0))
            counts[column.bins.index(column.fill)] -= filled
            found[name] = counts
        return found


def classes_alone(probabilities: FloatArray) -> Statistics:
    """Return the predicted classes of some rows, of which nothing else is counted.

    Args:
        probabilities: Float64 ``[rows, classes]``; a row with a NaN counts as not scored.
    """
    scored = _scored(probabilities)
    return Statistics(bins={UNCOUNTED: _predicted(probabilities if scored is None else probabilities[scored])})


def _scored(probabilities: FloatArray) -> npt.NDArray[np.bool_] | None:
    """Return which rows have all probabilities, bool ``[rows]``; None: all rows, as nearly always."""
    finite = np.isfinite(probabilities)
    return None if finite.all() else np.asarray(finite.all(axis=1))


def _predicted(probabilities: FloatArray) -> IntArray:
    """Return the number of rows for which each class is the predicted one, the last bin with all further classes."""
    rows, classes = probabilities.shape
    if classes == 2:
        second = np.count_nonzero(probabilities[:, 1] > probabilities[:, 0])  # eight times as fast as argmax
        return np.array([rows - second, second], np.int64)
    places = np.minimum(probabilities.argmax(axis=1), MOST_PREDICTED)
    return np.bincount(places, minlength=min(classes, MOST_PREDICTED + 1))


def _counted(found: Mapping[str, Mapping[str, int]], names: Collection[str]) -> dict[str, Any]:
    return {name: kept(shown_counts(counts)) for name, counts in found.items() if name in names and counts}


def _row_sums(values: IntArray, lengths: IntArray) -> IntArray:
    """Return the sum of the values of each row; ``lengths`` says how many values each row has."""
    ends = np.cumsum(lengths)
    total: IntArray = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    sums: IntArray = total[ends] - total[ends - lengths]
    return sums


def _at_limits(text: TextArrays, limits: TextLimits) -> IntArray:
    """Return the number of rows without a token, with a chunk of the largest length, and with the most chunks."""
    full = most = 0
    if limits.tokens is not None:
        is_full = np.diff(text.chunk_offsets)[text.chunk_ids] >= limits.tokens
        full = int((_row_sums(is_full.astype(np.int64), text.row_lengths) > 0).sum()) if is_full.any() else 0
    if limits.chunks is not None:
        most = int((text.row_lengths >= limits.chunks).sum())
    return np.array([int((text.row_lengths == 0).sum()), full, most], np.int64)
