"""Distributions of the training rows, which the artifact keeps for reports of later runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.features.feature_tables import MISSING_NUMBER
from bsm_core.artifact.training_distributions import (
    MOST_FEATURES,
    MOST_NAMED,
    CategoryDistribution,
    NumberDistribution,
    TextDistribution,
    TrainingDistributions,
)
from bsm_core.models.batch import Batch
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.features import Imputer
from bsm_core.preprocess.findings import CategoryCounts, Findings
from bsm_core.report.binning import Binning, Scored
from bsm_core.report.number_bins import Bins
from bsm_core.report.statistics import CHUNKS, MOST_CHUNKS, TOKEN_EDGES, TOKENS, shown_counts
from bsm_core.scoring.counting import text_arrays
from bsm_core.training.rows.data import Rows

_BINS, _FEW, _DIGITS = 20, 20, 5
"""Number of bins of a number, the number of different values that have a bin each, and significant digits of edges."""
_OUTER = (0.005, 0.995)
"""Quantiles between which the bins lie; what lies outside is in the first or the last bin."""
_OFTEN = 0.25
"""Share of the rows above which the most frequent value has a bin of its own."""
_SKEWED = 10.0
"""Ratio of the range of the bins to that of the middle half of the values, above which equal widths say little."""


def fit_distributions(
    preprocess: Preprocessor,
    rows: Rows,
    batch: Batch,
    findings: Findings,
    *,
    numbers: Collection[str],
    categories: Collection[str],
) -> TrainingDistributions:
    """Return the distributions of the training rows.

    Args:
        preprocess: Processor of the rows.
        rows: The rows.
        batch: Their batch.
        findings: Findings of the batch.
        numbers, categories: Names of the features of each kind.
    """
    none, counts = CategoryCounts(), findings.counts()
    lost = {name: int(counts[f"missing:{name}"] + counts[f"number:{name}"]) for name in categories}
    known = {name: findings.categories.get(name, none).known for name in categories}
    texts = Binning().statistics(Scored(0, np.ones((len(rows), 1)), text_arrays(batch))).bins
    return TrainingDistributions(
        rows=len(rows),
        classes=rows.labels.bincount(minlength=preprocess.config.num_classes).tolist(),
        numbers={name: _number(rows, name) for name in [*numbers][:MOST_FEATURES]},
        categories={name: _category(known[name], lost[name]) for name in [*categories][:MOST_FEATURES]},
        texts={
            column: TextDistribution(
                chunks=_padded(texts[f"{CHUNKS}:{column}"], MOST_CHUNKS + 1),
                tokens=_padded(texts[f"{TOKENS}:{column}"], len(TOKEN_EDGES) + 1),
                missing=int(counts[f"missing:{column}"]),
            )
            for column in batch.texts
        },
        scores=[],
    )


def _padded(counts: npt.NDArray[np.int64], length: int) -> list[int]:
    found = counts.tolist()
    return [*found, *[0] * (length - len(found))]


def _category(known: Counter[str], lost: int) -> CategoryDistribution:
    ranked = sorted(shown_counts(known).items(), key=lambda item: (-item[1], item[0]))
    first = dict(ranked[:MOST_NAMED])
    return CategoryDistribution(counts=first, other=known.total() - sum(first.values()), missing=lost)


def _number(rows: Rows, name: str) -> NumberDistribution:
    column = Imputer(MISSING_NUMBER).transform(rows.columns[name], rows.dialect)
    filled = np.zeros(len(column.values), bool) if column.filled is None else column.filled
    values = np.sort(column.values[~filled])
    return distribution_of(values, int(filled.sum()))


def distribution_of(values: npt.NDArray[np.float32], missing: int = 0) -> NumberDistribution:
    """Return the distribution of a number: by value if there are at most 20 different ones, else in at most 23 bins.

    The bins have equal widths. If most values lie close together and a few far away, each bin holds about equally many
    values instead.

    Args:
        values: Sorted values.
        missing: Number of cells without a usable number.
    """
    distinct, rows = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:
        return NumberDistribution(edges=[], counts=[*rows.tolist(), 0], missing=missing, values=distinct.tolist())
    top = int(rows.argmax())
    if rows[top] < _OFTEN * len(values):
        edges = _edges(values)
    else:  # such as the zeros of a count: a bin of their own, among those of the other values
        around = distinct[top : top + 2].tolist()
        edges = sorted({*_edges(values[values != distinct[top]]), *around})
    return NumberDistribution(edges=edges, counts=Bins.of(edges).counts(values).tolist(), missing=missing)


def _edges(values: npt.NDArray[np.float32]) -> list[float]:
    distinct = np.unique(values)
    low, first, third, high = np.quantile(values.astype(np.float64), [_OUTER[0], 0.25, 0.75, _OUTER[1]])
    are_whole = bool((distinct == np.floor(distinct)).all())
    if third > first and (high - low) / (third - first) > _SKEWED:
        edges = np.quantile(values, np.linspace(0.0, 1.0, _BINS + 1)[1:-1])
    elif are_whole:  # a bin that holds one whole number more than the next one would look like a peak
        edges = np.arange(np.floor(low), high + 1, max(1.0, np.ceil((high - low) / _BINS)))
    else:
        edges = np.linspace(low, high, _BINS)
    edges = np.ceil(edges) if are_whole else edges
    rounded = np.unique(np.array([float(f"{edge:.{_DIGITS}g}") for edge in edges], np.float32))
    return [float(f"{edge:.{_DIGITS + 2}g}") for edge in rounded.tolist()]
