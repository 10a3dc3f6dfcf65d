"""How far the rows of a run have moved from those of training: the population stability index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

MODERATE, LARGE = 0.1, 0.25
"""Values above which a shift is called moderate and large, as is usual in credit scoring."""
_LEAST_SHARE, _LEAST_OF_GROUP = 0.05, 40
"""Neighboring bins with a smaller share of the training rows, or with fewer rows, are joined.

By chance alone, the index is about the number of groups times the sum of 1 / rows of both sides. With 40 rows in each
group, that is about 0.05.
"""
_LEAST_ROWS = 100
"""Smaller numbers of rows say nothing."""


def stability_index(
    before: Sequence[int], now: Sequence[int], *, ordered: bool, apart: Sequence[tuple[int, int]] = ()
) -> float | None:
    """Return the population stability index: the sum of ``(now - before) * ln(now / before)`` over shares of rows.

    Neighboring bins that were rare in training are joined until they have 5 % of the training rows, or there is no
    further rare one. A frequent bin is never joined, so rows that leave it are always seen. Half a row of the side with
    fewer rows is added to each share on both sides, so that an empty one can be compared.

    Args:
        before: Rows of training in each bin.
        now: Rows of the run in each bin.
        ordered: Whether neighboring bins are similar, as those of a number are. Otherwise they are sorted by their rows
            in training.
        apart: Rows of training and of the run in bins that are never joined, such as missing cells.

    Returns:
        The index; None if there are fewer than 100 rows on one side, or no two bins.
    """
    bins, alone = np.array([before, now], np.float64), np.array(apart, np.float64).reshape(-1, 2).T
    totals = bins.sum(axis=1) + alone.sum(axis=1)
    if totals.min() < _LEAST_ROWS or bins.shape[1] + alone.shape[1] < 2:
        return None
    if not ordered:
        bins = bins[:, np.argsort(-bins[0], kind="stable")]
    groups = _groups(bins[0] / totals[0], max(_LEAST_SHARE, _LEAST_OF_GROUP / totals.min()))
    joined = np.column_stack([*(bins[:, groups == group].sum(axis=1) for group in np.unique(groups)), *alone.T])
    shares = joined / totals[:, None] + 0.5 / totals.min()
    shares /= shares.sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _groups(shares: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.int64]:
    """Return the number of the group of each bin: a frequent bin, or neighboring rare ones with the least share."""
    groups, group = list[int](), 0
    for is_rare, run in groupby(shares.tolist(), lambda share: share < least):
        first, share = group, 0.0
        for own in run:
            if share >= least:
                group, share = group + 1, 0.0
            groups.append(group)
            share += own
        if is_rare and share < least and group > first:  # what is left of a run joins the group before it
            groups = [min(number, group - 1) for number in groups]
            group -= 1
        group += 1
    return np.array(groups, np.int64)


def words_of(index: float | None) -> str:
    """Return how a shift is called."""
    if index is None:
        return ""
    return "large shift" if index > LARGE else "moderate shift" if index > MODERATE else "stable"
