"""Ranges of numbers that one sample has more often than another."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

_BETTER = 0.05
"""Difference of two shares by which a range with two ends must be better than one with a single end."""
_CHANCE = 2.3
"""Value of Kuiper's statistic, scaled by the number of rows, that chance exceeds once in 1,000 columns."""


@dataclass(frozen=True)
class Range:
    """Range of numbers.

    Attributes:
        what: The range, such as ``"is 61 or more"``.
        share: Share of the first sample that is in it.
        others: Share of the second sample that is in it.
    """

    what: str
    share: float
    others: float


def clearest_range(sample: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> Range | None:
    """Return the range that the first sample has most often, compared with the second.

    The difference of the two shares is Kuiper's statistic, or that of Kolmogorov and Smirnov for a range with one end:
    the largest difference of the distribution functions.

    Args:
        sample: Numbers of some rows; NaN for a row without one, which is in no range.
        others: Numbers of the other rows, in the same form.

    Returns:
        The range, or None if chance may be the cause of the difference.
    """
    if not len(sample) or not len(others):
        return None
    finite = [np.sort(numbers[np.isfinite(numbers)]) for numbers in (sample, others)]
    at = np.unique(np.concatenate(finite))
    if not len(at):
        return None
    shares = [
        np.concatenate([[0.0], np.searchsorted(numbers, at, "right") / len(of)])
        for numbers, of in zip(finite, (sample, others), strict=True)
    ]
    first, last = _ends(shares[0] - shares[1])
    share, other = (float(share[last] - share[first]) for share in shares)
    root = sqrt(len(sample) * len(others) / (len(sample) + len(others)))
    if (share - other) * (root + 0.155 + 0.24 / root) < _CHANCE:  # the scale of M. A. Stephens, JRSS B 1970
        return None
    return Range(_words(at, first, last), share, other)


def _ends(ahead: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Return the numbers of the points between which the difference of two distribution functions grows most."""
    low, high = int(ahead.argmin()), int(ahead.argmax())
    gaps = {(0, high): float(ahead[high]), (low, len(ahead) - 1): float(ahead[-1] - ahead[low])}
    one_end = max(gaps, key=lambda ends: gaps[ends])
    grown = ahead - np.minimum.accumulate(ahead)
    last = int(grown.argmax())
    two_ends = int(ahead[: last + 1].argmin()), last
    return two_ends if float(grown[last]) > gaps[one_end] + _BETTER else one_end


def _words(at: npt.NDArray[np.float64], first: int, last: int) -> str:
    """Return the words of a range of the distinct numbers ``at``: from number ``first`` up to, without, ``last``."""
    if first == 0 and last == len(at):
        return "is not missing"
    low, high = (format(float(number), ".12g") for number in (at[first], at[last - 1]))
    if first == 0:
        return f"is {high} or less"
    if last == len(at):
        return f"is {low} or more"
    return f"is {low}" if low == high else f"is {low} to {high}"
