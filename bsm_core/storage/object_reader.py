"""Reading an object in ranges, as a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 23
"""Largest range that is read ahead."""
_FIRST_BYTES = 1 << 16


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8, "bsm-read-ahead")


class ObjectReader(io.RawIOBase):
    """Reader that has one range of an object in memory.

    A range has the size that is asked for, and at least 64 KiB. While one range follows the other, this least size
    doubles, up to 8 MiB, and the next range is read in a thread while this one is used.

    Args:
        fetch: Function that returns the bytes from one position to another.
        size: Number of bytes of the object.
        stop: Position after which nothing is read that was not asked for. None: the end.
    """

    def __init__(self, fetch: Callable[[int, int], memoryview], size: int, stop: int | None = None) -> None:
        self._fetch, self._size = fetch, size
        self._stop = size if stop is None else min(stop, size)
        self._at = self._begin = 0
        self._range = memoryview(b"")
        self._least = _FIRST_BYTES
        self._ahead: tuple[int, Future[memoryview]] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read the next bytes into a buffer, and return their number."""
        view = memoryview(buffer).cast("B")
        found = self._next(len(view))
        view[: len(found)] = found
        return len(found)

    def read(self, size: int | None = -1) -> bytes:
        """Return this number of bytes; fewer only at the end."""
        left = self._size - self._at if size is None or size < 0 else size
        found = []
        while left > 0 and (part := self._next(left)):
            found.append(part)
            left -= len(part)
        return b"".join(found)

    def _next(self, size: int) -> memoryview:
        """Return the next bytes: as many as asked for, or those that are in memory."""
        size = min(size, self._size - self._at)
        if size > 0 and not self._begin <= self._at < self._begin + len(self._range):
            self._load(size)
        found = self._range[self._at - self._begin :][: max(0, size)]
        self._at += len(found)
        return found

    def _load(self, size: int) -> None:
        follows = len(self._range) > 0 and self._at == self._begin + len(self._range)
        self._least = min(2 * self._least, BLOCK_BYTES) if follows else _FIRST_BYTES
        begin, ahead = self._ahead or (-1, None)
        self._range = memoryview(b"")  # first: two ranges at a time, and not three
        if ahead is not None and begin == self._at:
            self._range = ahead.result()
        else:
            least = min(self._at + self._least, self._stop)
            self._range = self._fetch(self._at, max(self._at + size, least))
        self._begin, self._ahead = self._at, None
        end = self._begin + len(self._range)
        if follows and end < self._stop:
            self._ahead = end, _pool().submit(self._fetch, end, min(end + self._least, self._stop))
