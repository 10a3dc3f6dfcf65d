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

_Lengths = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]
_Hashes = npt.NDArray[np.uint64]
_OFFSETS = {pa.string(): np.int32, pa.binary(): np.int32, pa.large_string(): np.int64, pa.large_binary(): np.int64}
"""Type of the offsets of each Arrow type that has its values one after the other."""

_AT_ONCE = 1 << 22
"""Largest number of hashes in memory (32 MiB)."""
_TOGETHER = 1 << 20
"""Number of bytes of ids, in Arrow's memory, that are hashed together: few calls cost less time than many."""
_SHORT = 256
"""Largest number of bytes of an id that is hashed together with others of its length."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier whose bits look random: 2**64 divided by the golden ratio."""
_SHIFTS = np.array([32, 29], np.uint64)
"""Shifts after a multiplication, which spreads bits upwards only: the top ones to the middle, then to the bottom."""


class IdCounts:
    """Counts of missing ids, which are null or empty, and of repeated ids.

    Of each id, a hash of 64 bits is kept: in memory at first, then in a file without a name, which disappears with the
    process. Two of 100 million different ids have the same hash with a probability of 0.0003.

    Args:
        folder: Folder of the file. None: the folder for temporary files.
        at_once: Largest number of hashes in memory.
    """

    def __init__(self, folder: Path | None, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._hashes = tempfile.SpooledTemporaryFile(max_size=8 * at_once, dir=str(folder) if folder else None)  # noqa: SIM115 - see close
        self._waiting: list[pa.Array] = []
        self._bytes = self._rows = self._count = 0

    def add(self, ids: pa.ChunkedArray) -> None:
        """Count the ids of some rows."""
        self._waiting.append(ids.combine_chunks())  # a copy: the ids may lie in the memory of all columns of their rows
        self._rows += len(ids)
        self._bytes += ids.nbytes
        if self._bytes >= _TOGETHER:
            self._hash()

    def counted(self) -> tuple[int, int]:
        """Return the number of missing ids, and that of rows whose id, not a missing one, an earlier row has."""
        self._hash()
        passes = max(1, -(-self._count // self._at_once))
        distinct = (np.count_nonzero(_begins(np.sort(self._of_pass(number, passes)))) for number in range(passes))
        return self._rows - self._count, self._count - int(sum(distinct))

    def close(self) -> None:
        """Remove the file."""
        self._hashes.close()

    def _hash(self) -> None:
        """Hash the ids that wait."""
        if self._waiting:
            lengths, content = map(np.concatenate, zip(*map(_content, self._waiting), strict=True))
            self._waiting, self._bytes = [], 0
            hashes = _hashes(lengths, content)
            self._count += len(hashes)
            self._hashes.write(hashes.data)

    def _of_pass(self, number: int, passes: int) -> _Hashes:
        """Return hashes of one of several passes; a hash is in one pass only, and in it once for each block at most."""
        self._hashes.seek(0)
        if passes == 1:
            return np.frombuffer(self._hashes.read(), np.uint64)
        blocks: Iterable[bytes] = iter(lambda: self._hashes.read(8 * self._at_once), b"")
        hashes = (np.frombuffer(block, np.uint64) for block in blocks)
        found = [np.sort(block[block % np.uint64(passes) == number]) for block in hashes]
        return np.concatenate([block[_begins(block)] for block in found])


def _content(ids: pa.Array) -> tuple[_Lengths, _Bytes]:
    """Return the number of bytes of each id that is not null, and those bytes, which equal ids have in common."""
    ids = plain_values(ids)
    if pa.types.is_temporal(ids.type):  # not its text: the zone may be unknown to this system
        ids = ids.view(pa.binary(ids.type.bit_width // 8))
    if ids.type not in _OFFSETS:
        ids = _as_text(ids).cast(pa.large_binary())
    ids, offset_type = ids.drop_null() if ids.null_count else ids, _OFFSETS[ids.type]
    _, offsets, data = ids.buffers()
    starts = np.frombuffer(offsets, offset_type)[ids.offset :][: len(ids) + 1] if len(ids) else np.zeros(1, np.int64)
    content = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]] if starts[0] < starts[-1] else np.empty(0, np.uint8)
    return np.diff(starts).astype(np.int64, copy=False), content


def _as_text(ids: pa.Array) -> pa.Array:
    """Return ids that are no strings or bytes as text."""
    try:
        return ids if holds_text(ids.type) else ids.cast(pa.large_string())
    except pa.ArrowException:  # lists and structs
        texts = [None if value is None else repr(value).encode() for value in cell_values(ids)]
        return pa.array(texts, pa.large_binary())


def _hashes(lengths: _Lengths, content: _Bytes) -> _Hashes:
    """Return a hash of each cell that is not empty, in each process the same.

    Short cells of equal length are hashed together, eight bytes at a time: each eight bytes map the hash so far one to
    one to another hash, every bit of which depends on every bit of them. A long cell is hashed on its own.

    Args:
        lengths: Number of bytes of each cell, int64 ``[cells]``.
        content: Bytes of all cells, uint8 ``[sum of lengths]``.

    Returns:
        uint64 ``[cells that are not empty]``.
    """
    lengths = lengths[lengths > 0]
    hashes = lengths.astype(np.uint64) * _ODD
    if len(lengths) and (length := int(lengths[0])) <= _SHORT and (lengths == length).all():
        return _mixed(hashes, content.reshape(-1, length))
    starts = np.cumsum(lengths) - lengths
    for row in np.flatnonzero(lengths > _SHORT).tolist():
        cell = content[starts[row] : starts[row] + lengths[row]]
        hashes[row] = int.from_bytes(hashlib.blake2b(cell.data, digest_size=8).digest(), "little")
    for length in np.flatnonzero(np.bincount(lengths[lengths <= _SHORT])).tolist():
        rows = np.flatnonzero(lengths == length)
        hashes[rows] = _mixed(hashes[rows], content[starts[rows][:, None] + np.arange(length)])
    return hashes


def _mixed(hashes: _Hashes, cells: _Bytes) -> _Hashes:
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


def _begins(ordered: _Hashes) -> npt.NDArray[np.bool_]:
    """Return whether each of some values in order differs from the one before it."""
    return np.concatenate([np.ones(min(1, len(ordered)), bool), ordered[1:] != ordered[:-1]])
