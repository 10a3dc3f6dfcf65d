"""Counting numbers in bins, or by their value if training had few values, in a few nanoseconds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.training_distributions import NumberDistribution
from bsm_core.report.statistics import NUMBER_EDGES, IntArray

_KEYS = 1 << 16
"""Number of values of the first 16 bits of a float32: sign, exponent and 7 bits of the mantissa."""


@dataclass(frozen=True)
class Bins:
    """Bins of numbers. A bin includes its lower edge and not its upper one; the first and last bin have no end.

    The first 16 bits of a number say in which bin it lies, unless an edge lies among the numbers with these bits. So a
    table has the bin of each 16 bits, and only the numbers near an edge are compared with the edges.

    Attributes:
        edges: The edges in ascending order, float32 ``[edges]``.
    """

    edges: npt.NDArray[np.float32]

    @classmethod
    def of(cls, edges: Sequence[float]) -> Bins:
        """Return the bins with some edges."""
        return cls(np.array(edges, np.float32) + np.float32(0))  # no -0.0

    def __len__(self) -> int:
        return len(self.edges) + 1

    def index(self, value: float) -> int:
        """Return the number of the bin of a value."""
        return int(np.searchsorted(self.edges, np.float32(value), side="right"))

    def counts(self, values: npt.NDArray[np.float32]) -> IntArray:
        """Return the number of values in each bin, int64 ``[edges + 1]``.

        Args:
            values: The values, float32 ``[rows]``, all finite.
        """
        places = self._places[values.view(np.uint32) >> 16]
        found = np.bincount(places, minlength=len(self) + 1)
        if found[-1]:
            near = np.searchsorted(self.edges, values[places == len(self)], side="right")
            found[:-1] += np.bincount(near, minlength=len(self))
        return found[:-1]

    @cached_property
    def _places(self) -> npt.NDArray[np.int16]:
        """Bin of the numbers with each 16 first bits; one more than there are bins where they lie in several."""
        bits = self.edges.view(np.uint32)
        ranks = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))  # in the order of the numbers
        keys = ranks >> 16
        edges = np.bincount(keys, minlength=_KEYS)
        first = np.bincount(keys[ranks & 0xFFFF == 0], minlength=_KEYS)  # edges that are the smallest of such numbers
        places = np.where(edges == first, np.cumsum(edges), len(self))
        places[0x7FFF] = len(self)  # -0.0 is one of these, and equal to 0
        raw = np.arange(_KEYS)
        in_order: npt.NDArray[np.int16] = places[raw ^ np.where(raw >> 15, 0xFFFF, 0x8000)].astype(np.int16)
        return in_order


@dataclass(frozen=True)
class ValueBins:
    """A bin for each of a few values, and a last one for all other values.

    Attributes:
        values: The values, float32 ``[values]``.
    """

    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.values) + 1

    def index(self, value: float) -> int:
        """Return the number of the bin of a value."""
        return int(self.counts(np.array([value], np.float32)).argmax())

    def counts(self, values: npt.NDArray[np.float32]) -> IntArray:
        """Return the number of values in each bin, int64 ``[values + 1]``. See :meth:`Bins.counts`."""
        found = [np.count_nonzero(values == value) for value in self.values]
        return np.array([*found, len(values) - sum(found)], np.int64)


def bins_of(trained: NumberDistribution | None) -> Bins | ValueBins:
    """Return the bins in which training counted a feature; the fixed ones if that is not known."""
    if trained is None:
        return Bins.of(NUMBER_EDGES)
    return Bins.of(trained.edges) if trained.values is None else ValueBins(np.array(trained.values, np.float32))
