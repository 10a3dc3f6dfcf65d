"""Reading CSV and TSV files: cells as bytes, and the exact place of every error.

pyarrow parses the files. This module adds three things:

- A sentinel row at the end of the stream. pyarrow reads an unclosed quote as one cell that contains all following rows.
  With such a quote, the sentinel row does not arrive as a row.
- A search for stray quotes that merge rows, see :mod:`bsm_core.tables.quotes`. pyarrow does not report them.
- A second pass over a file that pyarrow refuses, with the ``csv`` module, which knows the line number of the error.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pacsv

from bsm_core.errors import DataError
from bsm_core.tables.data_files import DELIMITERS, Format, codec_of
from bsm_core.tables.quotes import Quotes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# In bytes. A row must fit into one block. If a row is longer than a block, the file is reopened with the next size.
BLOCK_SIZES = (1 << 20, 1 << 24, 1 << 28)

_SENTINEL = b"bsm-end-of-table"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # the characters that the error handler "surrogateescape" makes
_field_size_limit = threading.Lock()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of Arrow and of the operating system about a file into a :class:`DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"cannot be read: {reason}", where=str(path), fix="the file may be cut off or damaged"
        ) from error


def read_schema(path: Path, format: Format) -> pa.Schema | None:
    """Return the columns of a text file, all with type ``binary``.

    Returns:
        The schema, or None if the file has no content, not even a header.

    Raises:
        DataError: The header is not UTF-8 or not CSV, or the file cannot be read.
    """
    with reading(path), _Stream(path) as stream:
        rows = csv.reader(_lines(stream), delimiter=DELIMITERS[format], strict=True)
        try:
            header: list[str] = next(filter(None, rows), [])
            "".join(header).encode()
        except (csv.Error, UnicodeEncodeError) as error:
            reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise DataError(
                f"the header cannot be read: {reason}", where=f"{path}, line 1", fix=f"save the file as UTF-8 {format}"
            ) from error
    return pa.schema([(name, pa.binary()) for name in header]) if header else None


def read_batches(
    path: Path, format: Format, schema: pa.Schema, wanted: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Read the rows of a text file.

    Args:
        path: The file.
        format: ``"csv"`` or ``"tsv"``.
        schema: Schema of the file, from :func:`read_schema`.
        wanted: Columns to read, as ``binary`` or ``string``; other columns are not converted.

    Yields:
        Record batches, each with the share of the file that has been read, 0 to 1.

    Raises:
        DataError: A row has too many or too few cells or is too long; a quote is not closed, or is closed in the middle
            of a cell on another line; a cell of a ``string`` column is not UTF-8; the file is damaged.
    """
    with reading(path):
        given = 0
        for block_size in BLOCK_SIZES:
            skip = given  # number of rows that were yielded before the file was reopened
            try:
                for batch, share in _parse(path, format, len(schema), wanted, block_size):
                    fresh = batch.slice(skip)
                    skip -= len(batch) - len(fresh)
                    given += len(fresh)
                    yield fresh, share
            except pa.ArrowInvalid as error:
                row_too_long = any(sign in str(error) for sign in ("straddling object", "Empty CSV file or block"))
                if not row_too_long or block_size == BLOCK_SIZES[-1]:
                    raise _explain(path, format, schema, wanted, str(error)) from error
            else:
                return


def _parse(
    path: Path, format: Format, width: int, wanted: pa.Schema, block_size: int
) -> Iterator[tuple[pa.RecordBatch, float]]:
    read_options = pacsv.ReadOptions(block_size=block_size, use_threads=False)
    parse_options = pacsv.ParseOptions(delimiter=DELIMITERS[format], newlines_in_values=True)
    convert_options = pacsv.ConvertOptions(include_columns=wanted.names, column_types=wanted)
    with (
        _Stream(path, _sentinel_row(format, width), Quotes(DELIMITERS[format])) as stream,
        pacsv.open_csv(stream, read_options, parse_options, convert_options) as reader,
    ):
        held, share = None, 0.0
        for batch in filter(len, reader):
            if held is not None:
                yield held, share
            held, share = batch, stream.share
    if held is None or any(column[-1].as_buffer() != _SENTINEL for column in held.columns):
        raise pa.ArrowInvalid("a quote is not closed")
    yield held.slice(0, len(held) - 1), 1.0


def _sentinel_row(format: Format, width: int) -> bytes:
    return b"\n" + DELIMITERS[format].encode().join([_SENTINEL] * width) + b"\n"


class _Stream(io.RawIOBase):
    """The decompressed bytes of a file, followed by ``tail``.

    Attributes:
        share: Share of the file that has been read, 0 to 1, of its compressed bytes.
    """

    def __init__(self, path: Path, tail: bytes = b"", quotes: Quotes | None = None) -> None:
        self._raw = self._file = pa.OSFile(str(path))
        if codec := codec_of(path):
            self._file = pa.CompressedInputStream(self._raw, codec)
        self._tail = io.BytesIO(tail)
        self._quotes = quotes
        self.share = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._file.read(len(view))
        data += self._tail.read(len(view) - len(data))
        if self._quotes and self._quotes.merge_rows(data):
            raise pa.ArrowInvalid("a quote is closed in the middle of a cell")
        view[: len(data)] = data
        self.share = self._raw.tell() / self._raw.size()
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _lines(stream: _Stream) -> io.TextIOWrapper:
    # surrogateescape: with a strict decoder, a byte that is not UTF-8 would hide the error that is searched for.
    return io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="")


def _explain(path: Path, format: Format, schema: pa.Schema, wanted: pa.Schema, reason: str) -> DataError:
    """Find the first row that cannot be read, and return an error with its line in the file."""
    width, tail = len(schema), _sentinel_row(format, len(schema))
    strings = {field.name: schema.get_field_index(field.name) for field in wanted if pa.types.is_string(field.type)}
    line, lines = 1, list[str]()
    with _Stream(path, tail) as stream, _long_cells():
        rows = csv.reader(_recorded(_lines(stream), lines), delimiter=DELIMITERS[format])
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
            return _error(path, line, f"a row is longer than {BLOCK_SIZES[-1]:,} bytes; is a quote not closed?", [])
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
    return DataError(
        f"{cell.encode(errors='surrogateescape')[:80]!r} is not UTF-8, and Parquet text must be",
        where=f"{path}, line {line}, column {column!r}",
        fix="write csv or tsv, which keep every byte, or save the input as UTF-8",
    )


def _error(path: Path, line: int, what: str, cells: list[str]) -> DataError:
    text = "  ".join(cells).encode(errors="surrogateescape").decode(errors="replace")
    return DataError(
        what,
        where=f"{path}, line {line}",
        details=[f"the row begins with {text[:80]!r}"] if cells else [],
        fix="put a cell that contains the delimiter, a quote or a line break into quotes, and double the quotes inside",
    )


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module read cells as long as the largest block. Its limit holds for the whole process."""
    with _field_size_limit:
        before = csv.field_size_limit(BLOCK_SIZES[-1])
        try:
            yield
        finally:
            csv.field_size_limit(before)
