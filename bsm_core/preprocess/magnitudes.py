"""Numbers whose magnitude training never saw: they are used as they are, counted, and one of each column is named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bsm_core.preprocess.findings import MAGNITUDE, Issue

_TIMES = 10
_MOST = float(np.finfo(np.float32).max)


class Magnitudes:
    """Search for numbers more than ten times as large as any of training.

    Args:
        largest: Largest absolute value in training by feature. Other features have no limit.
    """

    def __init__(self, largest: Mapping[str, float]) -> None:
        self._largest = dict(largest)
        self._limits = {name: np.float32(min(_TIMES * value, _MOST)) for name, value in largest.items()}

    def unseen(
        self, name: str, values: npt.NDArray[np.float32], filled: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Return the rows with such numbers, in order.

        Args:
            name: Name of the feature.
            values: Its values, finite, float32 ``[rows]``.
            filled: Whether each value stands for a missing or bad number, bool ``[rows]``.
        """
        limit = self._limits.get(name)
        return np.empty(0, np.int64) if limit is None else np.flatnonzero((np.abs(values) > limit) & ~filled)

    def example(self, name: str, row: int, values: npt.NDArray[np.float32]) -> Issue:
        """Return a row of :meth:`unseen` with its number and the reason."""
        reason = f"a number more than {_TIMES} times the largest of training, {self._largest[name]:g}"
        return Issue.of(row, name, MAGNITUDE, reason, values[row])
