"""How far the rows of a run have moved from those of training: the population stability index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MODERATE, LARGE = 0.1, 0.25
"""Values above which a shift is called moderate and large, as is usual in credit scoring."""
_LEAST_SHARE = 0.05
"""Neighboring bins are joined until each has this share of the training rows: rare bins would be mostly noise."""
_LEAST_ROWS = 100
"""Smaller numbers of rows say nothing: by chance alone, ten bins differ by about nine divided by the rows."""


def stability_index(before: Sequence[int], now: Sequence[int], *, ordered: bool) -> float | None:
    """Return the population stability index: the sum of ``(now - before) * ln(now / before)`` over shares of bins.

    Half a row is added to each bin, so that an empty one has a share. A bin that was rare in training is joined with
    the next one, or with the other rare ones if the bins have no order.

    Args:
        before: Rows of training in each bin.
        now: Rows of the run in each bin.
        ordered: Whether neighboring bins are similar, as those of a number are.

    Returns:
        The index; None if there are fewer than 100 rows on one side, or no two bins.
    """
    counts = np.array([before, now], np.float64)
    totals = counts.sum(axis=1)
    if totals.min() < _LEAST_ROWS:
        return None
    groups = _groups(counts[0] / totals[0], ordered=ordered)
    joined = np.stack([np.bincount(groups, weights=side) for side in counts]) + 0.5
    if joined.shape[1] < 2:
        return None
    shares = joined / joined.sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _groups(shares: np.ndarray[tuple[int], np.dtype[np.float64]], *, ordered: bool) -> list[int]:
    """Return the number of the group of each bin."""
    if not ordered:
        frequent = [index for index, share in enumerate(shares) if share >= _LEAST_SHARE]
        places = {index: place for place, index in enumerate(frequent)}
        return [places.get(index, len(frequent)) for index in range(len(shares))]
    groups, group, share = list[int](), 0, 0.0
    for own in shares.tolist():
        groups.append(group)
        share += own
        if share >= _LEAST_SHARE:
            group, share = group + 1, 0.0
    return [min(number, max(group - 1, 0)) for number in groups]  # what is left at the end joins the last group


def words_of(index: float | None) -> str:
    """Return how a shift is called."""
    if index is None:
        return ""
    return "large shift" if index > LARGE else "moderate shift" if index > MODERATE else "stable"
