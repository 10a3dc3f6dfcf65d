"""CSV and TSV files: cells as the bytes they are, and an exact place for every error.

pyarrow parses. Three things are added to it. A sentinel row is appended to the stream, because pyarrow takes an
unclosed quote at the end of a file for a good cell, rows and all; with the sentinel it is noticed. The stream is
watched for quotes that merge rows, which pyarrow lets pass as well. And a file that is refused is
read once more by the ``csv`` module, which can tell the line.
"""

from __future__ import annotations

import csv
import io
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

# A row must fit into one block. Most do into the first size; a file with a longer row is reopened with the next.
BLOCK_SIZES = (1 << 20, 1 << 24, 1 << 28)

_SENTINEL = b"bsm-end-of-table"
_field_size_limit = threading.Lock()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what Arrow and the system say about a file that cannot be read into a :class:`DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot be read: {str(error).splitlines()[0]}", where=str(path), fix="the file may be cut off or damaged"
        ) from error


def read_schema(path: Path, format: Format) -> pa.Schema | None:
    """The columns of a text file, all of type ``binary``.

    Returns:
        The schema, or None where the file holds nothing, not even a header.

    Raises:
        DataError: The header is not UTF-8 or not CSV, or the file cannot be read.
    """
    with reading(path), _open(path) as stream:
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
    """The rows of a text file.

    Args:
        path: The file.
        format: ``csv`` or ``tsv``.
        schema: What :func:`read_schema` gave.
        wanted: Columns to read, as ``binary`` or ``string``; no other is converted.

    Yields:
        Batches of some rows, and the share of the file that was read for them, 0 to 1.

    Raises:
        DataError: A row with too many or too few cells, a quote that is not closed or closed in the middle of a cell,
            a row too long, a cell that is to be a string and not UTF-8, a file that is damaged.
    """
    with reading(path):
        given = 0
        for block_size in BLOCK_SIZES:
            skip = given  # given before the file was reopened
            try:
                for batch, share in _parse(path, format, len(schema), wanted, block_size):
                    fresh = batch.slice(skip)
                    skip -= len(batch) - len(fresh)
                    given += len(fresh)
                    yield fresh, share
            except pa.ArrowInvalid as error:
                if not _row_too_long(error) or block_size == BLOCK_SIZES[-1]:
                    raise _explain(path, format, schema, wanted, str(error)) from error
            else:
                return


def _row_too_long(error: pa.ArrowInvalid) -> bool:
    return any(sign in str(error) for sign in ("straddling object", "Empty CSV file or block"))


def _parse(
    path: Path, format: Format, width: int, wanted: pa.Schema, block_size: int
) -> Iterator[tuple[pa.RecordBatch, float]]:
    read_options = pacsv.ReadOptions(block_size=block_size, use_threads=False)
    parse_options = pacsv.ParseOptions(delimiter=DELIMITERS[format], newlines_in_values=True)
    convert_options = pacsv.ConvertOptions(include_columns=wanted.names, column_types=wanted)
    with (
        _open(path, _sentinel_row(format, width), Quotes(DELIMITERS[format])) as stream,
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
    """The unpacked bytes of a file with ``tail`` behind them; ``share`` of the packed ones is read, 0 to 1."""

    def __init__(self, file: pa.NativeFile, codec: str | None, tail: bytes, quotes: Quotes | None) -> None:
        self._raw = self._file = file
        if codec:
            self._file = pa.CompressedInputStream(file, codec)
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


def _open(path: Path, tail: bytes = b"", quotes: Quotes | None = None) -> _Stream:
    return _Stream(pa.OSFile(str(path)), codec_of(path), tail, quotes)


def _lines(stream: _Stream) -> io.TextIOWrapper:
    # One bad byte, anywhere, must not keep the others from being looked at.
    return io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="")


def _explain(path: Path, format: Format, schema: pa.Schema, wanted: pa.Schema, reason: str) -> DataError:
    """Find the row that could not be read, by its line in the file."""
    width, tail = len(schema), _sentinel_row(format, len(schema)).decode()
    strings = {field.name: schema.get_field_index(field.name) for field in wanted if pa.types.is_string(field.type)}
    line, lines = 1, list[str]()
    with _open(path, tail.encode()) as stream, _long_cells():
        rows = csv.reader(_noted(_lines(stream), lines), delimiter=DELIMITERS[format])
        try:
            for cells in rows:
                if cells and cells[-1].endswith(tail):
                    line += sum(cell.count("\n") for cell in cells[:-1])
                    return _error(path, line, "a quote is opened and never closed", cells[-1:])
                if len(lines) > 1 and _merged(lines, format):
                    what = f"a quote is closed in the middle of a cell: the row would run to line {rows.line_num}"
                    return _error(path, line, what, cells)
                if cells and len(cells) != width:
                    return _error(path, line, f"expected {width} cells, found {len(cells)}", cells)
                if cells and (bad := [name for name, at in strings.items() if not _is_utf8(cells[at])]):
                    return _not_utf8(path, line, bad[0], cells[strings[bad[0]]])
                line = rows.line_num + 1
                lines.clear()
        except csv.Error:
            return _error(path, line, f"a row is longer than {BLOCK_SIZES[-1]:,} bytes; is a quote not closed?", [])
    return DataError(f"cannot be read: {reason}", where=str(path))


def _noted(lines: Iterable[str], notes: list[str]) -> Iterator[str]:
    for line in lines:
        notes.append(line)
        yield line


def _merged(lines: list[str], format: Format) -> bool:
    """Whether the lines of one row are those of several."""
    return Quotes(DELIMITERS[format]).merge_rows("".join(lines).encode(errors="surrogateescape") + b"\n")


def _is_utf8(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        details=[f"it begins with {text[:80]!r}"] if cells else [],
        fix="a cell that holds the delimiter, a quote or a line break must stand in quotes, its own quotes doubled",
    )


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module read cells as long as a block; its limit is one for the whole process."""
    with _field_size_limit:
        before = csv.field_size_limit(BLOCK_SIZES[-1])
        try:
            yield
        finally:
            csv.field_size_limit(before)
