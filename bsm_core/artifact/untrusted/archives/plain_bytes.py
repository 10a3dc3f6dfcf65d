"""Bytes of an archive without their compression, in pieces, and the work that an archive may take.

``gzip.GzipFile`` reads what follows its first stream byte by byte.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from bsm_core.artifact.untrusted.archives.limits import LESS, Limits, unsafe

_PACKED = 16 << 10
_PIECE = 64 << 10
_GZIP = 31
"""``wbits`` of a gzip stream, whose checksum zlib checks."""
_WORK_OF_STREAM = 2 << 10


class PlainBytes:
    """The bytes of an archive, from its beginning to its end, as often as they are read.

    Args:
        archive: The archive, compressed with gzip or not compressed.
        is_plain: Whether it is not compressed.
        limits: Limits on its content.
        where: The archive, for errors.

    Attributes:
        size: Bytes of the archive as it is.

    Raises:
        UnsafeArtifactError: The archive exceeds a limit.
        OSError, EOFError, zlib.error: It cannot be read, or its compressed bytes are damaged.
    """

    def __init__(self, archive: BinaryIO, is_plain: bool, limits: Limits, where: str) -> None:
        self._archive, self._is_plain, self._limits, self._where = archive, is_plain, limits, where
        self.size = archive.seek(0, os.SEEK_END)
        self._work_left = limits.work + limits.work_ratio * self.size
        self.rewind()

    def rewind(self) -> None:
        """Go to the beginning. What was read before still counts as work."""
        self._archive.seek(0)
        self._pieces = iter(lambda: self._archive.read(_PIECE), b"") if self._is_plain else self._inflated()
        self._piece, self._place, self._read = b"", 0, 0

    def read(self, most: int) -> bytes:
        """Return the next bytes: ``most`` or fewer, and none at the end."""
        if self._place == len(self._piece):
            self._piece, self._place = next(self._pieces, b""), 0
            self._read += len(self._piece)
            if self._read > self._limits.size:
                raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
            self.count(len(self._piece))
        data = self._piece[self._place : self._place + most]
        self._place += len(data)
        return data

    def count(self, work: int) -> None:
        """Count work, in bytes that are unpacked in the same time."""
        self._work_left -= work
        if self._work_left < 0:
            problem = "unpacks to far more than its size, or has very many members or long headers"
            raise unsafe("the archive", problem, self._where, LESS)

    def _inflated(self) -> Iterator[bytes]:
        """Unpack the streams of gzip, which follow each other, with zeros between them."""
        data, stream = b"", None
        while data := data or self._archive.read(_PACKED):
            if stream is None:
                if not (data := data.lstrip(b"\0")):
                    continue
                self.count(_WORK_OF_STREAM)
                stream = zlib.decompressobj(wbits=_GZIP)
            if piece := stream.decompress(data, _PIECE):
                yield piece
            data, stream = (stream.unused_data, None) if stream.eof else (stream.unconsumed_tail, stream)
        if stream is not None:
            raise EOFError("the compressed bytes end early")
