"""Reading CSV and TSV files: cells as bytes, and the exact place of every error.

pyarrow parses the files. This module adds four things:

- A sentinel row at the end of the stream. pyarrow reads an unclosed quote as one cell that contains all following rows.
  With such a quote, the sentinel row does not arrive as a row.
- A search for stray quotes that merge rows, see :mod:`bsm_core.tables.quotes`. pyarrow does not report them.
- A second pass over a file that pyarrow refuses, with the ``csv`` module, which knows the line number of the error.
- The byte at which each row ends, so that reading can begin at any row, see :mod:`bsm_core.tables.row_ends`.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from bsm_core.errors import DataError
from bsm_core.tables.bad_lines import BadLine, LeftOut, find_bad_lines, long_cells
from bsm_core.tables.data_files import DELIMITERS, Format, codec_of
from bsm_core.tables.lent_streams import lend
from bsm_core.tables.quotes import Quotes
from bsm_core.tables.row_ends import RowEnds

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# In bytes. A row must fit into one block. If a row is longer than a block, the file is reopened with the next size.
BLOCK_SIZES = (1 << 20, 1 << 24, 1 << 26)
_LONGEST_HEADER, _MOST_COLUMNS = 1 << 24, 100_000
"""Limits on the characters before the first row, and on columns: a small compressed file can hold any number."""

_SKIP_BYTES = 1 << 20
_SENTINEL = b"bsm-end-of-table"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # the characters that the error handler "surrogateescape" makes


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of Arrow and of the operating system about a file into a :class:`DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        fix = "the file may be cut off or damaged"
        raise DataError(f"cannot be read: {reason}", where=str(path), fix=fix) from error


def read_schema(path: Path, format: Format) -> pa.Schema | None:
    """Return the columns of a text file, all with type ``binary``.

    Returns:
        The schema, or None if the file has no content, not even a header.

    Raises:
        DataError: The header is not UTF-8 or not CSV, or the file cannot be read.
    """
    with reading(path), _Stream(path, offset=_begin(path)) as stream:
        rows = csv.reader(_header_lines(path, _lines(path, stream)), delimiter=DELIMITERS[format], strict=True)
        try:
            header: list[str] = next(filter(None, rows), [])
            "".join(header).encode()
        except (csv.Error, UnicodeEncodeError) as error:
            reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise DataError(
                f"the header cannot be read: {reason}", where=f"{path}, line 1", fix=f"save the file as UTF-8 {format}"
            ) from error
    if len(header) > _MOST_COLUMNS:
        what = f"the header has {len(header):,} columns; at most {_MOST_COLUMNS:,} are read"
        raise DataError(what, where=f"{path}, line 1", fix=f"look whether the file is {format} with a header")
    return pa.schema([(name, pa.binary()) for name in header]) if header else None


def _header_lines(path: Path, lines: Iterable[str]) -> Iterator[str]:
    left = _LONGEST_HEADER
    for line in lines:
        left -= len(line)
        if left < 0:
            what = f"there is no header in the first {_LONGEST_HEADER:,} characters"
            raise DataError(what, where=str(path), fix="look whether the file is a table with a header")
        yield line


class FileRows(NamedTuple):
    """Some rows of a file.

    Attributes:
        batch: The rows.
        share: Share of the file that has been read, 0 to 1.
        ends: Position after each row, int64 ``[rows]``: a byte of the decompressed text, or a row of Parquet; -1 where
            it is unknown.
        bad_lines: Lines that were left out, each with the number of these rows that come before it.
    """

    batch: pa.RecordBatch
    share: float
    ends: npt.NDArray[np.int64]
    bad_lines: Sequence[tuple[int, BadLine]] = ()


def read_batches(
    path: Path,
    format: Format,
    schema: pa.Schema,
    wanted: pa.Schema,
    offset: int = 0,
    on_bad_line: Literal["fail", "skip"] = "fail",
) -> Iterator[FileRows]:
    """Read the rows of a text file.

    Args:
        path: The file.
        format: ``"csv"`` or ``"tsv"``.
        schema: Schema of the file, from :func:`read_schema`.
        wanted: Columns to read, as ``binary`` or ``string``; other columns are not converted.
        offset: Position at which a row begins, in the decompressed bytes. At 0, the header is read too.
        on_bad_line: Whether a line that cannot be read as a row is an error or is left out.

    Raises:
        DataError: A row has too many or too few cells or is too long; a quote is not closed, or is closed in the middle
            of a cell on another line; a cell of a ``string`` column is not UTF-8; the file is damaged.
    """
    with reading(path):
        given, given_lines, sizes, left_out = 0, 0, [*BLOCK_SIZES], None
        while True:
            skip, skip_lines = given, given_lines  # what was yielded before the file was reopened
            try:
                for rows in _parse(path, format, schema, wanted, sizes[0], offset, left_out):
                    fresh = rows.batch.slice(skip)
                    old = len(rows.batch) - len(fresh)
                    skip -= old
                    given += len(fresh)
                    bad_lines = [(max(0, at - old), bad) for at, bad in rows.bad_lines[skip_lines:]]
                    skip_lines -= len(rows.bad_lines) - len(bad_lines)
                    given_lines += len(bad_lines)
                    yield FileRows(fresh, rows.share, rows.ends[old:], bad_lines)
                return
            except pa.ArrowInvalid as error:
                row_too_long = any(sign in str(error) for sign in ("straddling object", "Empty CSV file or block"))
                if row_too_long and len(sizes) > 1:
                    sizes.pop(0)
                elif on_bad_line == "skip" and left_out is None:
                    # The second pass, which is slower, finds the bad lines. The rows before the first one were yielded.
                    left_out = partial(_bad_lines, path, format, schema, wanted, offset)
                else:
                    raise _explain(path, format, schema, wanted, str(error)) from error


def _parse(
    path: Path,
    format: Format,
    schema: pa.Schema,
    wanted: pa.Schema,
    block_size: int,
    offset: int,
    bad_lines: Callable[[], Iterator[BadLine]] | None = None,
) -> Iterator[FileRows]:
    names = schema.names if offset else None
    begin = offset or _begin(path)
    read_options = pacsv.ReadOptions(block_size=block_size, use_threads=False, column_names=names)
    parse_options = pacsv.ParseOptions(delimiter=DELIMITERS[format], newlines_in_values=True)
    convert_options = pacsv.ConvertOptions(include_columns=wanted.names, column_types=wanted)
    row_ends = RowEnds(DELIMITERS[format], begin, header=names is None)
    scans = (Quotes(DELIMITERS[format]), row_ends)
    left_out = LeftOut(bad_lines() if bad_lines else (), begin)
    held, share = None, 0.0
    with _Stream(path, _sentinel_row(format, len(schema)), scans, begin, left_out) as stream:
        try:
            with pacsv.open_csv(stream, read_options, parse_options, convert_options) as reader:
                for batch in filter(len, reader):
                    if held is not None:
                        yield FileRows(held, share, *left_out.take(row_ends.take(len(held)), last=False))
                    held, share = batch, stream.share
            if stream.error or held is None or any(column[-1].as_buffer() != _SENTINEL for column in held.columns):
                raise pa.ArrowInvalid("a quote is not closed")
        except pa.ArrowInvalid as error:
            raise stream.error or error from None
    rest = held.slice(0, len(held) - 1)
    yield FileRows(rest, 1.0, *left_out.take(row_ends.take(len(rest)), last=True))


def _begin(path: Path) -> int:
    """Return the position of a file's first byte after its byte order mark."""
    with _Stream(path) as stream:
        return len(BOM_UTF8) if stream.read(len(BOM_UTF8)) == BOM_UTF8 else 0


def _sentinel_row(format: Format, width: int) -> bytes:
    # Not \n, which would belong to a \r before it, and so move the end of the last row.
    return b"\r" + DELIMITERS[format].encode().join([_SENTINEL] * width) + b"\n"


class _Stream(io.RawIOBase):
    r"""The decompressed bytes of a file, followed by ``tail``.

    Args:
        path: The file.
        tail: Bytes that follow those of the file.
        scans: Check for stray quotes, and search for row ends, which are passed all bytes that are read.
        offset: Position of the first byte.
        left_out: Lines of the file that are left out.

    If there are scans, pyarrow reads the stream, and drops two things that can be part of a cell:

    - A byte order mark at the beginning. So a mark is put before the bytes of the file.
    - The ``\n`` after a block that ends with ``\r``. So such a ``\r`` waits for the next block.

    Attributes:
        share: Share of the file that has been read, 0 to 1, of its compressed bytes.
        error: Error that ended the stream. An error that is raised while pyarrow reads can leave one of its threads
            waiting for ever; after as many as it has, all readers hang.
    """

    def __init__(
        self,
        path: Path,
        tail: bytes = b"",
        scans: tuple[Quotes, RowEnds] | None = None,
        offset: int = 0,
        left_out: LeftOut | None = None,
    ) -> None:
        self._raw = self._file = pa.OSFile(str(path))
        if codec := codec_of(path):
            self._file = pa.CompressedInputStream(self._raw, codec)
            while offset and (skipped := len(self._file.read(min(offset, _SKIP_BYTES)))):
                offset -= skipped
        else:
            self._raw.seek(offset)
        self._tail = io.BytesIO(tail)
        self._scans = scans
        self._left_out = left_out
        self._head = BOM_UTF8 if scans else b""  # the bytes with which the next block begins
        self._reading = threading.Lock()
        self.share = 0.0
        self.error: Exception | None = None
        lend(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view, data = memoryview(buffer), b""
        with self._reading:
            try:
                if self.error is None:
                    data = self._scanned(len(view), *self._scans) if self._scans else self._next(len(view))
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
        self.share = self._raw.tell() / self._raw.size()
        return data

    def _next(self, size: int) -> bytes:
        data = self._of_file(size)
        return data + self._tail.read(size - len(data))

    def _of_file(self, size: int) -> bytes:
        """Return this number of bytes of the file; fewer only at its end."""
        if self._left_out is None:
            return self._file.read(size)  # type: ignore[no-any-return]
        data = b""
        while block := self._file.read(size - len(data)):
            data += self._left_out.keep(block)
        return data

    def close(self) -> None:
        # A thread of Arrow's may still read, and would take bytes of the next file, which gets the same descriptor.
        with self._reading:
            self._file.close()
            super().close()


def _lines(path: Path, stream: _Stream) -> Iterator[str]:
    # surrogateescape: with a strict decoder, a byte that is not UTF-8 would hide the error that is searched for.
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8", "surrogateescape", newline="")
    number, longest = 0, BLOCK_SIZES[-1]
    while line := text.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise _too_long(path, number)
        yield line


def _bad_lines(path: Path, format: Format, schema: pa.Schema, wanted: pa.Schema, offset: int) -> Iterator[BadLine]:
    """Find the lines from a position on that cannot be read as rows."""
    width, tail = len(schema), _sentinel_row(format, len(schema))
    strings = {field.name: schema.get_field_index(field.name) for field in wanted if pa.types.is_string(field.type)}

    def fault(cells: list[str], lines: list[str]) -> tuple[str, bool] | None:
        if cells[-1].endswith(tail.decode()):
            return "a quote is opened and never closed", True
        if len(lines) > 1 and _merged(lines, format):
            return "a quote is closed in the middle of a cell of a later line", True
        if len(cells) != width:
            return f"wrong number of cells: expected {width}, found {len(cells)}", False
        bad = [name for name, at in strings.items() if _NOT_UTF8.search(cells[at])]
        return (f"bytes that are not UTF-8: column {bad[0]!r}", False) if bad else None

    line, begin = 1 + _line_breaks(path, offset), offset or _begin(path)
    with _Stream(path, tail, offset=begin) as stream:
        lines, delimiter, longest = _lines(path, stream), DELIMITERS[format], BLOCK_SIZES[-1]
        yield from find_bad_lines(lines, fault, delimiter, str(path), longest, line, begin)


def _line_breaks(path: Path, stop: int) -> int:
    """Return the number of line breaks before a position."""
    found, after_cr = 0, False
    with _Stream(path) as stream:
        while stop and (block := stream.read(min(stop, _SKIP_BYTES))):
            found += block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
            found -= after_cr and block.startswith(b"\n")
            after_cr, stop = block.endswith(b"\r"), stop - len(block)
    return found


def _explain(path: Path, format: Format, schema: pa.Schema, wanted: pa.Schema, reason: str) -> DataError:
    """Find the first row that cannot be read, and return an error with its line in the file."""
    width, tail = len(schema), _sentinel_row(format, len(schema))
    strings = {field.name: schema.get_field_index(field.name) for field in wanted if pa.types.is_string(field.type)}
    line, lines = 1, list[str]()
    with _Stream(path, tail, offset=_begin(path)) as stream, long_cells(BLOCK_SIZES[-1]):
        rows = csv.reader(_recorded(_lines(path, stream), lines), delimiter=DELIMITERS[format])
        try:
            for cells in rows:
                if cells and cells[-1].endswith(tail.decode()):
                    line += sum(cell.count("\n") for cell in cells[:-1])
                    return _error(path, line, "a quote is opened and never closed", cells[-1:])
                if len(lines) > 1 and _merged(lines, format):
                    what = f"a quote is closed in the middle of a cell: the row would run to line {rows.line_num}"
                    return _error(path, line, what, cells)
                if cells and len(cells) != width:
                    return _error(path, line, f"expected {width} cells, found {len(cells)}", cells)
                if cells and (bad := [name for name, at in strings.items() if _NOT_UTF8.search(cells[at])]):
                    return _not_utf8(path, line, bad[0], cells[strings[bad[0]]])
                line = rows.line_num + 1
                lines.clear()
        except csv.Error:
            return _too_long(path, line)
    return DataError(f"cannot be read: {reason}", where=str(path))


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """Yield lines, and append each of them to ``record``."""
    for line in lines:
        record.append(line)
        yield line


def _merged(lines: list[str], format: Format) -> bool:
    """Return whether stray quotes make one row of several lines."""
    return Quotes(DELIMITERS[format]).merge_rows("".join(lines).encode(errors="surrogateescape") + b"\n")


def _not_utf8(path: Path, line: int, column: str, cell: str) -> DataError:
    what = f"{cell.encode(errors='surrogateescape')[:80]!r} is not UTF-8, and Parquet text must be"
    fix = "write csv or tsv, which keep every byte, or save the input as UTF-8"
    return DataError(what, where=f"{path}, line {line}, column {column!r}", fix=fix)


def _too_long(path: Path, line: int) -> DataError:
    what = f"a row is longer than {BLOCK_SIZES[-1]:,} bytes; is a quote not closed?"
    fix = "close the quote, or remove the row: --on-bad-line skip does not leave out rows of this length"
    return DataError(what, where=f"{path}, line {line}", fix=fix)


def _error(path: Path, line: int, what: str, cells: list[str]) -> DataError:
    text = "  ".join(cells).encode(errors="surrogateescape").decode(errors="replace")
    return DataError(
        what,
        where=f"{path}, line {line}",
        details=[f"the row begins with {text[:80]!r}"] if cells else [],
        fix="put a cell with the delimiter, a quote or a line break into quotes, and double the quotes in it, "
        "or leave out such lines with --on-bad-line skip",
    )
