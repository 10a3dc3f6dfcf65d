"""Statistics of scored rows, which merge by addition: the sum over all windows is that of the run.

Everything is counted in fixed bins, so the size does not grow with the number of rows, and the result does not depend
on which process counted which window.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.training_distributions import LONGEST_NAME

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

PROBABILITY_BINS = 100
"""Number of bins of a probability, of equal width. The last one includes 1."""
MOST_CLASSES = 20
"""Number of classes whose probabilities are counted in bins."""
MOST_PREDICTED = 1_000
"""Number of classes of which the rows are counted for which the class is predicted; one more bin has all others."""
MOST_SERIES = 10
"""Largest number of classes whose mean probability is followed over the order of the rows."""
MOST_NUMBERS, MOST_CATEGORIES = 200, 50
"""Number of numeric features, and of features with a risk table, that are counted: the first ones of the model."""
MOST_CHUNKS = 32
"""Last bin of the number of chunks of a text, which holds larger numbers too."""
TOKEN_EDGES = (
    *(1, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024),
    *(1_536, 2_048, 3_072, 4_096, 8_192, 16_384),
)
"""Edges of the bins of the number of tokens of a text."""
_MAGNITUDES = [digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5)]
NUMBER_EDGES = (*(-edge for edge in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES)
"""Edges of the bins of a numeric feature whose distribution in training is not known."""
MOST_BUCKETS, _FEWEST = 200, 8
"""Largest number of buckets of consecutive rows, and the rows of a bucket while there are few rows."""
LEAST_CERTAIN, _CLASSES_NAMED = 20, 3
"""Number of rows that are named, and of their classes."""
_SAMPLED = 8
"""Step between the rows from which a limit of the margin of the least certain ones is found."""
_MOST_KEPT = 1_000
"""Number of categories of a feature, or of its unseen categories, that are counted one by one."""
OTHER = "\0other"
"""Key of the categories that are not counted one by one; no text of a cell."""

PREDICTED, UNCOUNTED, PROBABILITY, CHUNKS, TOKENS, LIMITS, NUMBER = (
    "predicted",
    "uncounted",
    "probability",
    "chunks",
    "tokens",
    "limits",
    "number",
)
"""First words of the keys of :attr:`Statistics.bins`; after all but two come a colon and a class or a column."""


class UncertainRow(NamedTuple):
    """Row whose two most probable classes are nearly equally probable.

    Attributes:
        margin: Difference of their probabilities.
        row: Position in the whole table, from 0.
        id: Text of the id, at most 100 characters.
        probabilities: The most probable classes with their probabilities, the most probable first.
    """

    margin: float
    row: int
    id: str
    probabilities: list[tuple[int, float]]


@dataclass
class Order:
    """Mean probabilities over the order of the rows, in buckets of consecutive rows.

    A bucket holds ``rows_per_bucket`` rows, which begin at a multiple of this number. When there are more than
    :data:`MOST_BUCKETS` buckets, neighbors are merged two by two.

    Attributes:
        rows_per_bucket: A power of two, at least 8.
        first: Number of the first bucket.
        rows: Rows with probabilities in each bucket, int64 ``[buckets]``.
        sums: Sum of the probabilities, float64 ``[series, buckets]``.
    """

    rows_per_bucket: int = _FEWEST
    first: int = 0
    rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    sums: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, start: int, values: FloatArray, scored: npt.NDArray[np.bool_] | None) -> Order:
        """Return the buckets of consecutive rows.

        Args:
            start: Position of the first row in the whole table.
            values: Probabilities, float64 ``[rows, series]``.
            scored: Which rows have probabilities, bool ``[rows]``; None: all.
        """
        if not len(values):
            return cls()
        counted = np.ones(len(values), np.int64) if scored is None else scored.astype(np.int64)
        values = values if scored is None else np.where(scored[:, None], values, 0.0)
        size, last = _FEWEST, start + len(values) - 1
        while last // size >= MOST_BUCKETS:
            size *= 2
        begins = np.arange(start // size, last // size + 1) * size - start
        begins[0] = 0
        sums = np.add.reduceat(values, begins, axis=0).T
        return cls(size, start // size, np.add.reduceat(counted, begins), sums)

    def plus(self, other: Order) -> Order:
        """Return the buckets of both."""
        if not len(self.rows) or not len(other.rows):
            return other if len(other.rows) else self
        size = max(self.rows_per_bucket, other.rows_per_bucket)
        both = self._in_buckets_of(size), other._in_buckets_of(size)
        first = min(order.first for order in both)
        count = max(order.first + len(order.rows) for order in both) - first
        rows, sums = np.zeros(count, np.int64), np.zeros((len(self.sums), count))
        for order in both:
            part = slice(order.first - first, order.first - first + len(order.rows))
            rows[part] += order.rows
            sums[:, part] += order.sums
        return Order(size, first, rows, sums)._fitted()

    def _in_buckets_of(self, size: int) -> Order:
        order = self
        while order.rows_per_bucket < size:
            odd = order.first % 2
            rows, sums = np.pad(order.rows, (odd, 0)), np.pad(order.sums, ((0, 0), (odd, 0)))
            begins = np.arange(0, len(rows), 2)
            summed = np.add.reduceat(rows, begins), np.add.reduceat(sums, begins, axis=1)
            order = Order(order.rows_per_bucket * 2, order.first // 2, *summed)
        return order

    def _fitted(self) -> Order:
        size = self.rows_per_bucket
        last = (self.first + len(self.rows)) * size - 1
        while last // size >= MOST_BUCKETS:
            size *= 2
        return self._in_buckets_of(size)


@dataclass
class Statistics:
    """Statistics of some rows.

    Attributes:
        rows: Number of rows.
        bins: Counts by bin; the keys begin with the words above.
        categories: How often each category of the risk table occurs, by feature.
        unseen: How often each category occurs that the risk table does not have, by feature.
        order: Mean probabilities over the order of the rows.
        least_certain: The rows whose two most probable classes are closest, the closest first.
    """

    rows: int = 0
    bins: dict[str, IntArray] = field(default_factory=dict)
    categories: dict[str, Counter[str]] = field(default_factory=dict)
    unseen: dict[str, Counter[str]] = field(default_factory=dict)
    order: Order = field(default_factory=Order)
    least_certain: list[UncertainRow] = field(default_factory=list)

    def add(self, other: Statistics) -> None:
        """Add the statistics of other rows."""
        self.rows += other.rows
        for key, counts in other.bins.items():
            if key in self.bins and len(self.bins[key]) == len(counts):
                self.bins[key] += counts
            else:
                self.bins[key] = _sum(self.bins.get(key, counts[:0]), counts)
        for own, others in ((self.categories, other.categories), (self.unseen, other.unseen)):
            for name, found in others.items():
                own.setdefault(name, Counter()).update(found)
                own[name] = kept(own[name], 2 * _MOST_KEPT)
        self.order = self.order.plus(other.order)
        nearest = sorted([*self.least_certain, *other.least_certain], key=lambda row: row[:2])
        self.least_certain = nearest[:LEAST_CERTAIN]

    @property
    def predicted(self) -> list[int]:
        """Number of rows for which each class is the predicted one, and, after 1,000 classes, any of the others."""
        found = self.bins.get(PREDICTED)
        return [] if found is None else found.tolist()

    @property
    def classes(self) -> list[int]:
        """Number of rows for which each class is the predicted one, also of rows of which nothing else is counted."""
        found = [self.bins[key] for key in (PREDICTED, UNCOUNTED) if key in self.bins]
        return _sum(found[0], found[-1] if len(found) > 1 else found[0][:0]).tolist() if found else []

    def of(self, kind: str) -> dict[str, IntArray]:
        """Return the counts whose keys begin with a word, by the rest of the key."""
        return {key.partition(":")[2]: counts for key, counts in self.bins.items() if key.partition(":")[0] == kind}

    def to_bytes(self) -> bytes:
        """Return the statistics as bytes: one line of JSON, then the arrays."""
        order = self.order
        values = {
            **{name: getattr(self, name) for name in ("rows", "categories", "unseen", "least_certain")},
            "bins": {key: len(counts) for key, counts in self.bins.items()},
            "order": [order.rows_per_bucket, order.first, *order.sums.shape],
        }
        arrays = [*self.bins.values(), order.rows, order.sums]
        return b"\n".join([json.dumps(values).encode(), b"".join(array.tobytes() for array in arrays)])

    @classmethod
    def from_bytes(cls, content: bytes) -> Statistics:
        """Return the statistics that :meth:`to_bytes` has written."""
        line, _, arrays = content.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        size, first, series, buckets = values["order"]
        lengths = [*values["bins"].values(), buckets]
        counted = np.frombuffer(arrays, np.int64, sum(lengths)).copy()
        *bins, rows = np.split(counted, np.cumsum(lengths[:-1])) if len(lengths) > 1 else [counted]
        sums = np.frombuffer(arrays, np.float64, offset=counted.nbytes).reshape(series, buckets)
        return cls(
            rows=values["rows"],
            bins=dict(zip(values["bins"], bins, strict=True)),
            categories={name: Counter(found) for name, found in values["categories"].items()},
            unseen={name: Counter(found) for name, found in values["unseen"].items()},
            order=Order(size, first, rows, sums),
            least_certain=[
                UncertainRow(margin, row, text, [(index, share) for index, share in named])
                for margin, row, text, named in values["least_certain"]
            ],
        )


def _sum(one: IntArray, other: IntArray) -> IntArray:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def kept(counts: Counter[str], most: int = _MOST_KEPT) -> Counter[str]:
    """Return the counts of the most frequent categories; the others count as :data:`OTHER` if there are too many.

    Args:
        counts: Counts by category.
        most: Number of categories above which the number is reduced to 1,000.
    """
    if len(counts) <= most:
        return counts
    ranked = sorted(counts.items(), key=lambda item: (item[0] != OTHER, -item[1], item[0]))
    found = Counter(dict(ranked[:_MOST_KEPT]))
    found[OTHER] += sum(count for _, count in ranked[_MOST_KEPT:])
    return found


def shown(text: str) -> str:
    """Return a text with at most 100 characters; three dots stand for the rest."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def shown_counts(counts: Mapping[str, int]) -> Counter[str]:
    """Return counts by category, in which long categories are cut, in training as in a run: both are compared."""
    found = Counter[str]()
    for name, count in counts.items():
        found[shown(name)] += count
    return found


def score_bins(probabilities: FloatArray) -> IntArray:
    """Return the number of rows in each bin of the probability of each class, int64 ``[classes, 100]``.

    Args:
        probabilities: Float64 ``[rows, classes]``, all finite.
    """
    classes = probabilities.shape[1]
    found = np.clip((probabilities * PROBABILITY_BINS).astype(np.int64), 0, PROBABILITY_BINS - 1)
    found += np.arange(classes) * PROBABILITY_BINS
    return np.bincount(found.ravel(), minlength=classes * PROBABILITY_BINS).reshape(classes, -1)


def series_of(probabilities: FloatArray) -> FloatArray:
    """Return what is followed over the order of the rows: float64 ``[rows, series]``.

    With two classes, the probability of class 1; with up to :data:`MOST_SERIES` classes, that of each class; with more
    classes, the largest probability of the row.
    """
    classes = probabilities.shape[1]
    if classes == 2:
        return probabilities[:, 1:]
    return probabilities if classes <= MOST_SERIES else probabilities.max(axis=1, keepdims=True)


def least_certain(probabilities: FloatArray, rows: npt.NDArray[np.int64], start: int, name: Any) -> list[UncertainRow]:
    """Return the rows whose two most probable classes are closest, the closest first, at most :data:`LEAST_CERTAIN`.

    Args:
        probabilities: Float64 ``[rows, classes]``, all finite.
        rows: Positions of these rows in their window.
        start: Position of the window's first row in the whole table.
        name: Function from positions in the window to the texts of the ids.
    """
    if not len(rows):
        return []
    if probabilities.shape[1] <= 2:
        margins = np.abs(probabilities[:, -1] - (probabilities[:, 0] if probabilities.shape[1] == 2 else 0.0))
    else:
        second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
        margins = first - second
    near, some = np.arange(len(margins)), margins[::_SAMPLED]
    if len(some) > LEAST_CERTAIN:  # none of the rows beyond the twentieth of some rows is among the twenty of all
        near = np.flatnonzero(margins <= np.partition(some, LEAST_CERTAIN - 1)[LEAST_CERTAIN - 1])
    near = near[np.argsort(margins[near], kind="stable")][:LEAST_CERTAIN]
    ids: Sequence[str] = name(rows[near].tolist())
    found = []
    for at, text in zip(near.tolist(), ids, strict=True):
        order = np.argsort(-probabilities[at], kind="stable")[:_CLASSES_NAMED].tolist()
        named = [(index, float(probabilities[at, index])) for index in order]
        found.append(UncertainRow(float(margins[at]), start + int(rows[at]), shown(text), named))
    return found
