"""Counting missing and repeated ids of a table in constant memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.formats.plain_values import holds_text, plain_values

_AT_ONCE = 1 << 22
"""Largest number of hashes in memory (32 MiB)."""
_SHORT = 256
"""Largest number of bytes of an id that is hashed together with others of its length."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier whose bits look random: 2**64 divided by the golden ratio."""
_SHIFTS = np.array([32, 29], np.uint64)
"""The first brings the top bits, which no multiplication spreads, to the middle; the second those to the bottom."""


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
        hashes = _hashes(_cells(ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids))
        self.missing += len(ids) - len(hashes)
        self._count += len(hashes)
        self._hashes.write(hashes.tobytes())

    def repeated(self) -> int:
        """Return the number of rows whose id an earlier row has; missing ids do not count."""
        passes = max(1, -(-self._count // self._at_once))
        distinct = (np.count_nonzero(_begins(np.sort(self._of_pass(number, passes)))) for number in range(passes))
        return self._count - int(sum(distinct))

    def close(self) -> None:
        """Remove the file."""
        self._hashes.close()

    def _of_pass(self, number: int, passes: int) -> npt.NDArray[np.uint64]:
        """Return hashes of one of several passes; a hash is in one pass only, and in it once for each block at most."""
        self._hashes.seek(0)
        if passes == 1:
            return np.frombuffer(self._hashes.read(), np.uint64)
        blocks: Iterable[bytes] = iter(lambda: self._hashes.read(8 * self._at_once), b"")
        hashes = (np.frombuffer(block, np.uint64) for block in blocks)
        found = [np.sort(block[block % np.uint64(passes) == number]) for block in hashes]
        return np.concatenate([block[_begins(block)] for block in found])


def _cells(ids: pa.Array) -> pa.Array:
    """Return bytes for each id, equal for equal ids; null or empty for a missing id; ``large_binary``."""
    ids = plain_values(ids)
    if pa.types.is_temporal(ids.type):  # not its text: the zone may be unknown to this system
        ids = ids.view(pa.binary(ids.type.bit_width // 8))
    try:
        return (ids if holds_text(ids.type) else ids.cast(pa.large_string())).cast(pa.large_binary())
    except pa.ArrowException:  # lists and structs
        texts = [None if value is None else repr(value).encode() for value in cell_values(ids)]
        return pa.array(texts, pa.large_binary())


def _hashes(cells: pa.LargeBinaryArray) -> npt.NDArray[np.uint64]:
    """Return a hash of each cell that is neither null nor empty, in each process the same.

    Short cells of equal length are hashed together, eight bytes at a time: each eight bytes map the hash so far one to
    one to another hash, every bit of which depends on every bit of them. A long cell is hashed on its own.
    """
    cells = cells.drop_null() if cells.null_count else cells
    _, offsets, data = cells.buffers()
    starts = np.frombuffer(offsets, np.int64)[cells.offset :][: len(cells) + 1] if len(cells) else np.zeros(1, np.int64)
    if starts[0] == starts[-1]:  # no bytes at all
        return np.empty(0, np.uint64)
    content, lengths = np.frombuffer(data, np.uint8), np.diff(starts)
    hashes = lengths.astype(np.uint64) * _ODD
    if (length := int(lengths[0])) <= _SHORT and (lengths == length).all():
        return _mixed(hashes, content[starts[0] : starts[-1]].reshape(-1, length))
    for row in np.flatnonzero(lengths > _SHORT).tolist():
        digest = hashlib.blake2b(content[starts[row] : starts[row + 1]].data, digest_size=8).digest()
        hashes[row] = int.from_bytes(digest, "little")
    for length in np.flatnonzero(np.bincount(lengths[lengths <= _SHORT])).tolist():
        rows = np.flatnonzero(lengths == length)
        hashes[rows] = _mixed(hashes[rows], content[starts[rows][:, None] + np.arange(length)])
    return hashes[lengths > 0]


def _mixed(hashes: npt.NDArray[np.uint64], cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return hashes, changed in place, with the bytes of cells of one length mixed in: uint8 ``[cells, length]``."""
    rows, length = cells.shape
    padded = np.zeros((rows, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = cells
    for word in padded.view(np.uint64).T:
        hashes ^= word
        for shift in _SHIFTS:
            hashes *= _ODD
            hashes ^= hashes >> shift
    return hashes


def _begins(ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return whether each of some values in order differs from the one before it."""
    return np.concatenate([np.ones(min(1, len(ordered)), bool), ordered[1:] != ordered[:-1]])
