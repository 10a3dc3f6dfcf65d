"""Counting missing and repeated ids of a table in constant memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.tables.write import holds_text

_AT_ONCE = 1 << 22
"""Largest number of hashes in memory (32 MiB)."""


class IdCounts:
    """Counts of missing ids, which are null or empty, and of repeated ids.

    Of each id, a hash of 64 bits is kept: in memory at first, then in a file without a name, which disappears with the
    process. Two of 100 million different ids have the same hash with a probability of 0.0003.

    Args:
        folder: Folder of the file.

    Attributes:
        missing: Number of missing ids so far.
    """

    def __init__(self, folder: Path, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._hashes = tempfile.SpooledTemporaryFile(max_size=8 * at_once, dir=str(folder))  # noqa: SIM115 - see close
        self._count = 0
        self.missing = 0

    def add(self, ids: pa.ChunkedArray) -> None:
        """Count the ids of some rows."""
        cells = ids.drop_null()
        if holds_text(cells.type):
            cells = cells.cast(pa.large_binary())
            cells = cells.filter(pc.greater(pc.binary_length(cells), 0))
        self.missing += len(ids) - len(cells)
        self._count += len(cells)
        # Python's hash of bytes and of text is not the same in two processes: one process must count all ids.
        hashes = np.fromiter(map(_hash, cells.to_pylist()), np.int64, len(cells))
        self._hashes.write(hashes.tobytes())

    def repeated(self) -> int:
        """Return the number of rows whose id an earlier row has; missing ids do not count."""
        passes = max(1, -(-self._count // self._at_once))
        return self._count - sum(len(np.unique(self._of_pass(number, passes))) for number in range(passes))

    def close(self) -> None:
        """Remove the file."""
        self._hashes.close()

    def _of_pass(self, number: int, passes: int) -> npt.NDArray[np.int64]:
        """Return hashes of one of several passes; a hash is in one pass only, and in it once for each block at most."""
        self._hashes.seek(0)
        blocks: Iterable[bytes] = iter(lambda: self._hashes.read(8 * self._at_once), b"")
        hashes = (np.frombuffer(block, np.int64) for block in blocks)
        found = [np.unique(block[block.view(np.uint64) % np.uint64(passes) == number]) for block in hashes]
        return np.concatenate([np.empty(0, np.int64), *found])


def _hash(value: Any) -> int:
    try:
        return hash(value)
    except TypeError:  # a list or a struct
        return hash(repr(value))
