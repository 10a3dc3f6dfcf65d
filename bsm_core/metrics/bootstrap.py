"""Bootstrap: resamples of rows, and the interval of a metric from its values in the resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
"""Confidence level of an interval."""
RESAMPLES = 1000
"""Default number of resamples."""
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """Value of a metric.

    Attributes:
        value: The value; None if the metric is not defined for these rows.
        low, high: Limits of the interval; None if there is none.
        note: Why there is no value or no interval, why a value counts no row, or which classes are not in a mean; else
            empty.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def estimate(value: float, resampled: Floats | None, note: str, most: float = 1.0) -> Estimate:
    """Return a metric with its bootstrap interval.

    The limits are percentiles of the values of the resamples, all moved by the difference between the metric and the
    mean of these values. So an interval does not contain what resampling itself adds to a metric, such as to the ECE,
    which is higher the more noise there is.

    Args:
        value: Value of the metric for all rows, NaN if it is not defined.
        resampled: Values of the resamples, NaN where the metric is not defined. None: no interval is wanted.
        note: Note on the value.
        most: Highest possible value; the lowest is 0.
    """
    if np.isnan(value):
        return Estimate(None, note=note)
    if resampled is None:
        return Estimate(value, note=note)
    found = resampled[np.isfinite(resampled)]
    if len(found) < len(resampled) / 2:
        return Estimate(value, note="no interval: the metric is not defined in more than half of the resamples")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.clip(np.quantile(found, [tail, 1 - tail]) - found.mean() + value, 0, most)
    return Estimate(value, float(low), float(high), note)


class Draws:
    """Bootstrap resamples of rows.

    Rows are drawn at random, with replacement, whatever their class (not stratified). Up to :data:`GROUPS` rows are
    drawn one by one: the ordinary bootstrap. More rows are first dealt at random into :data:`GROUPS` groups of equal
    size, and whole groups are drawn. As the groups are random, sums over the rows of a resample vary as much as if rows
    were drawn one by one, and drawing takes no longer for a million rows than for two thousand.

    Args:
        rows: Number of rows.
        resamples: Number of resamples.
        seed: Seed of the random numbers.
    """

    GROUPS = 2000

    def __init__(self, rows: int, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.groups = min(rows, self.GROUPS)
        self._group = np.arange(rows) if rows <= self.GROUPS else rng.permutation(rows) % self.GROUPS
        # How often each group is in each resample, float64 [resamples, groups].
        self._times = rng.multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=resamples).astype(float)
        self._times_float32 = self._times.astype(np.float32)

    def sums(self, columns: Sequence[Floats]) -> Floats:
        """Return the sum of each column ``[rows]`` in each resample, ``[resamples, columns]``."""
        found = [np.bincount(self._group, weights=column, minlength=self.groups) for column in columns]
        sums: Floats = self._times @ np.stack(found, axis=1)
        return sums

    def sums_of_bins(self, values: Floats, bins: npt.NDArray[np.intp], count: int) -> Floats:
        """Return the sum of values in each resample and bin, ``[resamples, bins]``.

        Args:
            values: Value of each row, ``[rows]``.
            bins: Bin of each row, ``[rows]``.
            count: Number of bins.
        """
        found = np.bincount(self._group * count + bins, weights=values, minlength=self.groups * count)
        sums: Floats = self._times @ found.reshape(self.groups, count)
        return sums

    def counts(self, bins: npt.NDArray[np.intp], count: int, mask: npt.NDArray[np.bool_]) -> Floats:
        """Return the number of rows of a mask in each bin and resample, ``[resamples, bins]``."""
        found = np.bincount(self._group[mask] * count + bins[mask], minlength=self.groups * count)
        # float32 has all whole numbers up to 16 million, and is twice as fast.
        counts = self._times_float32 @ found.reshape(self.groups, count).astype(np.float32)
        return counts.astype(np.float64)
