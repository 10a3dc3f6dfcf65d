"""Numbers whose magnitude training never saw: they are used as they are, counted, and one of each column is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bsm_core.preprocess.findings import MAGNITUDE, Issue

_TIMES = 10


class Magnitudes:
    """Search for numbers more than ten times as large as any of training.

    Args:
        names: Names of the features, in order.
        largest: Largest absolute value in training by feature. Other features have no limit.
    """

    def __init__(self, names: Sequence[str], largest: Mapping[str, float]) -> None:
        self._names, self._largest = tuple(names), largest
        self._limits = np.array([_TIMES * largest.get(name, np.inf) for name in names], np.float64)
        self._is_limited = bool(np.isfinite(self._limits).any())

    def unseen(self, values: npt.NDArray[np.float32]) -> dict[str, tuple[int, Issue]]:
        """Return for each feature with such numbers how many there are, and the first one.

        Args:
            values: Finite features, float32 ``[rows, features]``.
        """
        if not self._is_limited or not len(values):
            return {}
        found = {}
        for column in np.flatnonzero(np.abs(values).max(axis=0) > self._limits).tolist():
            name, rows = self._names[column], np.flatnonzero(np.abs(values[:, column]) > self._limits[column])
            reason = f"a number more than {_TIMES} times the largest of training, {self._largest[name]:g}"
            first = Issue.of(int(rows[0]), name, MAGNITUDE, reason, float(values[rows[0], column]))
            found[name] = len(rows), first
        return found
