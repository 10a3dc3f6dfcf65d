"""Decompressed bytes of a gzip file that may come from anyone."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

_BLOCK = 1 << 16
_FREE_MEMBERS = 1_000
_LEAST_MEMBER = 1_000
"""Bytes that a member holds on average, after the first ``_FREE_MEMBERS``; ``bgzip`` writes members of 64 KB."""


class GzipStream(io.RawIOBase):
    """Reader of a gzip file.

    A gzip file is a sequence of members. ``gzip`` of Python skips members without content, of which a small file can
    have millions, and takes a minute for it. Here their number is limited.

    Args:
        raw: The file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self._member = zlib.decompressobj(wbits=31)
        self._input = b""
        self._members, self._bytes = 1, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, or some if it is negative; empty at the end of the file.

        Raises:
            ValueError: The file has very many members.
            EOFError: The file ends within a member.
            zlib.error: The file is damaged, or no gzip file.
        """
        while True:
            data = self._input or self._raw.read(_BLOCK)
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding, which tapes need
                if not data:
                    if not self._input:
                        return b""
                    self._input = b""
                    continue
                self._next_member()
            content = self._member.decompress(data, max(size, 0) or _BLOCK)
            self._input = self._member.unconsumed_tail or self._member.unused_data
            self._bytes += len(content)
            if content:
                return content
            if not data and not self._member.eof:
                raise EOFError("the compressed file ends too early")

    def _next_member(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members += 1
        if self._members > _FREE_MEMBERS + self._bytes // _LEAST_MEMBER:
            raise ValueError("it has very many gzip members, most of them without content")
