"""The bytes of a text file, as pyarrow's reader of CSV needs them."""

from __future__ import annotations

import io
import threading
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from bsm_core.tables.bad_lines import LeftOut
from bsm_core.tables.data_files import codec_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_text import PlainText
from bsm_core.tables.formats.quotes import Quotes
from bsm_core.tables.formats.row_ends import RowEnds
from bsm_core.tables.lent_streams import arrow_file, lend

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SKIP_BYTES = 1 << 20
"""Number of bytes that are read at once to get to a place."""


class TextStream(io.RawIOBase):
    r"""The decompressed bytes of a file, followed by ``tail``.

    Args:
        path: The file.
        dialect: Dialect of the file. A file in another encoding or with an escape character is read as plain text.
        tail: Bytes that follow those of the file.
        scans: Check for stray quotes, and search for row ends, which are passed all bytes that are read.
        offset: Position of the first byte.
        left_out: Lines of the file that are left out.
        stop: Position after the last byte, of a file that is neither compressed nor translated. None: that of its end.

    If there are scans, pyarrow reads the stream, and drops two things that can be part of a cell:

    - A byte order mark at the beginning. So a mark is put before the bytes of the file.
    - The ``\n`` after a block that ends with ``\r``. So such a ``\r`` waits for the next block.

    Attributes:
        error: Error that ended the stream. An error that is raised while pyarrow reads can leave one of its threads
            waiting for ever; after as many as it has, all readers hang.
    """

    def __init__(
        self,
        path: Path,
        dialect: Dialect,
        tail: bytes = b"",
        scans: tuple[Quotes, RowEnds] | None = None,
        offset: int = 0,
        left_out: LeftOut | None = None,
        stop: int | None = None,
    ) -> None:
        self._raw = self._file = arrow_file(path, stop)
        if codec := codec_of(path):
            self._file = pa.CompressedInputStream(self._raw, codec)
        if dialect.translated:
            self._file = PlainText(self._file, dialect, dialect.mark, str(path))
        if self._file is not self._raw:
            while offset and (skipped := len(self._file.read(min(offset, SKIP_BYTES)))):
                offset -= skipped
        else:
            self._raw.seek(offset)
        self._tail = io.BytesIO(tail)
        self._scans = scans
        self._left_out = left_out
        self._stop = stop
        self._head = BOM_UTF8 if scans else b""  # the bytes with which the next block begins
        self._reading = threading.Lock()
        self._read = 0.0, offset  # share of the file's own bytes, and the position after what they contained
        self.error: Exception | None = None
        lend(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read the next bytes into a buffer, and return their number."""
        view, data = memoryview(buffer), b""
        with self._reading:
            try:
                if self.error is None:
                    data = self._scanned(len(view), *self._scans) if self._scans else self._next(len(view))
                    self._read = self._raw.tell() / max(1, self._raw.size()), self._read[1] + len(data)
            except Exception as error:
                if not self._scans:
                    raise
                self.error = error  # not raised to pyarrow, see the attribute
        view[: len(data)] = data
        return len(data)

    def _scanned(self, size: int, quotes: Quotes, row_ends: RowEnds) -> bytes:
        data = self._next(size - len(self._head))
        if quotes.merge_rows(data):
            raise pa.ArrowInvalid("a quote is closed in the middle of a cell")
        row_ends.feed(data)
        if self._head:
            data, self._head = self._head + data, b""
        if data.endswith(b"\r") and len(data) > 1:
            data, self._head = data[:-1], b"\r"
        return data

    def _next(self, size: int) -> bytes:
        data = self._of_file(size)
        return data + self._tail.read(size - len(data))

    def _of_file(self, size: int) -> bytes:
        """Return this number of bytes of the file; fewer only at its end."""
        if self._stop is not None:
            size = max(0, min(size, self._stop - self._raw.tell()))
        if self._left_out is None:
            return self._file.read(size)  # type: ignore[no-any-return]
        data = b""
        while block := self._file.read(size - len(data)):
            data += self._left_out.keep(block)
        return data

    def share_before(self, position: int) -> float:
        """Return the share of the file before a position in the stream, 0 to 1; of a compressed file, an estimate.

        Of the file's own bytes, more has been read, in blocks: the position is a part of what they contained.
        """
        share, end = self._read
        return float(share * min(1.0, position / max(1, end)))

    def close(self) -> None:
        """Close the file."""
        # A thread of Arrow's may still read, and would take bytes of the next file, which gets the same descriptor.
        with self._reading:
            self._file.close()
            super().close()


def text_lines(stream: TextStream) -> io.TextIOWrapper:
    """Return the text of a stream, in which bytes that are not UTF-8 are surrogates, with its line breaks as they are.

    A strict decoder would raise an error for such a byte before the error that is searched for.
    """
    return io.TextIOWrapper(io.BufferedReader(stream), "utf-8", "surrogateescape", newline="")
