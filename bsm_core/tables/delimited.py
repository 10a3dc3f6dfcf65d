"""Reading CSV and TSV files: cells as bytes, and the exact place of every error.

pyarrow parses the files. This module adds four things:

- A sentinel row at the end of the stream. pyarrow reads an unclosed quote as one cell that contains all following rows.
  With such a quote, the sentinel row does not arrive as a row.
- A search for stray quotes that merge rows, see :mod:`bsm_core.tables.formats.quotes`. pyarrow does not report them.
- A second pass over a file that pyarrow refuses, with the ``csv`` module, which knows the line number of the error.
- The byte at which each row ends, so that reading can begin at any row, see :mod:`bsm_core.tables.formats.row_ends`.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

from bsm_core.errors import DataError, quoted
from bsm_core.tables.bad_lines import SHOWN, SKIP, BadLine, LeftOut, byte_size, csv_rows, find_bad_lines
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.headers import first_row, reading
from bsm_core.tables.formats.plain_text import line_breaks as breaks_in
from bsm_core.tables.formats.quotes import Quotes
from bsm_core.tables.formats.row_ends import RowEnds
from bsm_core.tables.formats.text_stream import SKIP_BYTES, TextStream, text_lines

# In bytes. A row must fit into one block. If a row is longer than a block, the file is reopened with the next size.
BLOCK_SIZES = (1 << 20, 1 << 24, 1 << 26)
_SENTINEL = b"bsm-end-of-table"
_OPEN = "a quote is opened and never closed"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # the characters that the error handler "surrogateescape" makes


class FileRows(NamedTuple):
    """Some rows of a file.

    Attributes:
        batch: The rows.
        share: Share of the file that has been read, 0 to 1.
        ends: Position after each row, int64 ``[rows]``: a byte of the decompressed text, or a row of Parquet; -1 where
            it is unknown.
        odd: Number of cells of each row in which a backslash seems to escape a quote, and of cells in which other text
            follows the quote that ends their quotes, int64 ``[rows, 2]``.
        bad_lines: Lines that were left out, each with the number of these rows that come before it.
    """

    batch: pa.RecordBatch
    share: float
    ends: npt.NDArray[np.int64]
    odd: npt.NDArray[np.int64]
    bad_lines: Sequence[tuple[int, BadLine]] = ()


def read_batches(
    path: Path,
    dialect: Dialect,
    schema: pa.Schema,
    wanted: pa.Schema,
    offset: int = 0,
    on_bad_line: Literal["fail", "skip"] = "fail",
    stop: int | None = None,
) -> Iterator[FileRows]:
    """Read the rows of a text file.

    Args:
        path: The file.
        dialect: Dialect of the file, with its delimiter.
        schema: Schema of the file, from :func:`read_schema`.
        wanted: Columns to read, as ``binary`` or ``string``; other columns are not converted.
        offset: Position at which a row begins, in the decompressed bytes. At 0, the header is read too.
        on_bad_line: Whether a line that cannot be read as a row is an error or is left out.
        stop: Position at which a row ends, after which nothing is read, of a file that is read as it is. None: all.

    Raises:
        DataError: A row has too many or too few cells or is too long; a quote is not closed, or is closed in the middle
            of a cell on another line; a cell of a ``string`` column is not UTF-8; the file is damaged.
    """
    with reading(path):
        given, given_lines, sizes, left_out = 0, 0, [*BLOCK_SIZES], None
        while True:
            skip, skip_lines = given, given_lines  # what was yielded before the file was reopened
            try:
                for rows in _parse(path, dialect, schema, wanted, sizes[0], (offset, stop), left_out):
                    fresh = rows.batch.slice(skip)
                    old = len(rows.batch) - len(fresh)
                    skip -= old
                    given += len(fresh)
                    bad_lines = [(max(0, at - old), bad) for at, bad in rows.bad_lines[skip_lines:]]
                    skip_lines -= len(rows.bad_lines) - len(bad_lines)
                    given_lines += len(bad_lines)
                    yield FileRows(fresh, rows.share, rows.ends[old:], rows.odd[old:], bad_lines)
                return
            except pa.ArrowInvalid as error:
                row_too_long = any(sign in str(error) for sign in ("straddling object", "Empty CSV file or block"))
                if row_too_long and len(sizes) > 1:
                    sizes.pop(0)
                elif on_bad_line == "skip" and left_out is None:
                    # The second pass, which is slower, finds the bad lines. The rows before the first one were yielded.
                    left_out = partial(_bad_lines, path, dialect, schema, wanted, offset)
                else:
                    skips = left_out is not None
                    raise _explain(path, dialect, schema, wanted, str(error), skips=skips) from error


def _parse(
    path: Path,
    dialect: Dialect,
    schema: pa.Schema,
    wanted: pa.Schema,
    block_size: int,
    place: tuple[int, int | None],
    bad_lines: Callable[[threading.Event], Iterator[BadLine]] | None = None,
) -> Iterator[FileRows]:
    offset, stop = place
    names = schema.names if offset or dialect.columns else None
    begin = offset or first_row(path, dialect)[0]
    read_options = pacsv.ReadOptions(block_size=block_size, use_threads=False, column_names=names)
    parse_options = pacsv.ParseOptions(delimiter=dialect.mark, newlines_in_values=True)
    convert_options = pacsv.ConvertOptions(include_columns=wanted.names, column_types=wanted)
    row_ends = RowEnds(dialect.mark, begin, header=names is None, odd=True)
    scans = (Quotes(dialect.mark), row_ends)
    given_up = threading.Event()
    left_out = LeftOut(bad_lines(given_up) if bad_lines else (), begin)
    held = None
    with TextStream(path, dialect, _sentinel_row(dialect, len(schema)), scans, begin, left_out, stop) as stream:
        try:
            with pacsv.open_csv(stream, read_options, parse_options, convert_options) as reader:
                try:
                    for batch in filter(len, reader):
                        if held is not None:
                            yield _rows_of(held, stream, row_ends, left_out)
                        held = batch
                finally:
                    given_up.set()  # Arrow's reader waits for its thread, which may search for the next bad line
            end = _sentinel(dialect)
            if stream.error or held is None or any(column[-1].as_buffer() != end for column in held.columns):
                raise pa.ArrowInvalid("a quote is not closed")
        except pa.ArrowInvalid as error:
            raise stream.error or error from None
    rest = held.slice(0, len(held) - 1)
    yield _rows_of(rest, stream, row_ends, left_out, last=True)


def _rows_of(
    batch: pa.RecordBatch,
    stream: TextStream,
    row_ends: RowEnds,
    left_out: LeftOut,
    *,
    last: bool = False,
) -> FileRows:
    ends = row_ends.take(len(batch))
    share = 1.0 if last else stream.share_before(int(ends[-1]))
    positions, bad_lines = left_out.take(ends, last)
    odd = np.stack([row_ends.escapes.take(ends), row_ends.loose.take(ends)], axis=1)
    return FileRows(batch, share, positions, odd, bad_lines)


def _sentinel(dialect: Dialect) -> bytes:
    """Return the content of each cell of the sentinel row, in which the delimiter does not occur."""
    return _SENTINEL.replace(dialect.mark.encode(), b"_")


def _sentinel_row(dialect: Dialect, width: int) -> bytes:
    # Not \n, which would belong to a \r before it, and so move the end of the last row.
    return b"\r" + dialect.mark.encode().join([_sentinel(dialect)] * width) + b"\n"


def _lines(path: Path, stream: TextStream) -> Iterator[str]:
    longest = BLOCK_SIZES[-1]
    for number, line in enumerate(iter(partial(text_lines(stream).readline, longest + 1), ""), 1):
        if len(line) > longest:
            raise _too_long(path, number)
        yield line


class _RowCheck:
    """Check of the rows that the csv module reads, up to the sentinel row.

    Attributes:
        tail: The sentinel row, with which a cell ends whose quote is not closed.
    """

    def __init__(self, dialect: Dialect, schema: pa.Schema, wanted: pa.Schema) -> None:
        self._dialect, self._width = dialect, len(schema)
        self.tail = _sentinel_row(dialect, len(schema)).decode()
        self._strings = {f.name: schema.get_field_index(f.name) for f in wanted if pa.types.is_string(f.type)}

    def fault(self, cells: list[str], lines: list[str]) -> tuple[str, bool] | None:
        """Return the reason why a row cannot be read, and whether its quotes are the reason; None for a sound row."""
        if cells[-1].endswith(self.tail):
            return _OPEN, True
        if len(lines) > 1 and _merged(lines, self._dialect):
            return "a quote is closed in the middle of a cell of a later line", True
        if len(cells) != self._width:
            return f"wrong number of cells: expected {self._width}, found {len(cells)}", False
        bad = next(self.not_utf8(cells), None)
        return (f"bytes that are not UTF-8: column {bad[0]!r}", False) if bad else None

    def not_utf8(self, cells: list[str]) -> Iterator[tuple[str, str]]:
        """Yield the column and the cell of each text of a row that is not UTF-8."""
        return ((name, cells[at]) for name, at in self._strings.items() if _NOT_UTF8.search(cells[at]))


def _bad_lines(
    path: Path, dialect: Dialect, schema: pa.Schema, wanted: pa.Schema, offset: int, given_up: threading.Event
) -> Iterator[BadLine]:
    """Find the lines from a position on that cannot be read as rows, until the search is given up."""
    begin, fault = offset or first_row(path, dialect)[0], _RowCheck(dialect, schema, wanted).fault
    line = 1 + line_breaks(path, dialect, begin)
    with TextStream(path, dialect, _sentinel_row(dialect, len(schema)), offset=begin) as stream:
        lines = takewhile(lambda _: not given_up.is_set(), _lines(path, stream))
        yield from find_bad_lines(lines, fault, dialect.mark, str(path), BLOCK_SIZES[-1], line, begin)


def line_breaks(path: Path, dialect: Dialect, stop: int) -> int:
    """Return the number of line breaks before a position."""
    found, after_cr = 0, False
    with TextStream(path, dialect) as stream:
        while stop and (block := stream.read(min(stop, SKIP_BYTES))):
            found += breaks_in(block, after_cr)
            after_cr, stop = block.endswith(b"\r"), stop - len(block)
    return found


def _explain(
    path: Path, dialect: Dialect, schema: pa.Schema, wanted: pa.Schema, reason: str, *, skips: bool
) -> DataError:
    """Find the first row that cannot be read, and return an error with its line in the file.

    Args:
        path, dialect, schema, wanted: See :func:`read_batches`.
        reason: What pyarrow says.
        skips: Whether bad lines were left out, so that they are not the reason.
    """
    begin, check, lines = first_row(path, dialect)[0], _RowCheck(dialect, schema, wanted), list[str]()
    line = 1 + line_breaks(path, dialect, begin)
    with TextStream(path, dialect, _sentinel_row(dialect, len(schema)), offset=begin) as stream:
        reader = csv.reader(_recorded(_lines(path, stream), lines), delimiter=dialect.mark)
        try:
            for cells in csv_rows(reader, BLOCK_SIZES[-1]):
                if byte_size(lines) > BLOCK_SIZES[-1]:
                    return _too_long(path, line)
                if cells and not skips and (found := check.fault(cells, lines)):
                    what, in_quotes = found
                    if what == _OPEN:
                        before = sum(cell.count("\n") for cell in cells[:-1])
                        line, lines = line + before, lines[before:]
                    elif in_quotes:
                        what += f": the row would run to line {line + len(lines) - 1}"
                    elif len(cells) == len(schema):
                        return _not_utf8(path, line, *next(check.not_utf8(cells)))
                    elif len(cells) == len(schema) + 1 and not cells[-1]:
                        what += "; the line ends with a delimiter"
                    return _error(path, line, what, lines, dialect)
                line += len(lines)
                lines.clear()
        except csv.Error:
            return _too_long(path, line)
    return DataError(f"cannot be read: {reason}", where=str(path))


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """Yield lines, and append each of them to ``record``."""
    for line in lines:
        record.append(line)
        yield line


def _merged(lines: list[str], dialect: Dialect) -> bool:
    """Return whether stray quotes make one row of several lines."""
    return Quotes(dialect.mark).merge_rows("".join(lines).encode(errors="surrogateescape") + b"\n")


def _not_utf8(path: Path, line: int, column: str, cell: str) -> DataError:
    what = f"{cell.encode(errors='surrogateescape')[:80]!r} is not UTF-8, and Parquet text must be"
    fix = "write csv or tsv, which keep every byte, or save the input as UTF-8"
    return DataError(what, where=f"{path}, line {line}, column {column!r}", fix=fix)


def _too_long(path: Path, line: int) -> DataError:
    what = f"a row is longer than {BLOCK_SIZES[-1]:,} bytes; is a quote not closed?"
    fix = "close the quote, or remove the row, which is too long to be left out as a bad line"
    return DataError(what, where=f"{path}, line {line}", fix=fix)


def _error(path: Path, line: int, what: str, lines: Sequence[str], dialect: Dialect) -> DataError:
    text = lines[0][:SHOWN].encode(errors="surrogateescape").decode(errors="backslashreplace").rstrip("\r\n")[:SHOWN]
    escaped = dialect.escape is None and any('\\"' in text for text in lines)
    escape = [r"the row has \", which Spark writes for a quote in a cell"] if escaped else []
    return DataError(
        what,
        where=f"{path}, line {line}",
        details=[f"the row begins with {quoted(text)}", *escape],
        fix="put a cell with the delimiter, a quote or a line break into quotes, and double the quotes in it",
        settings=[*([{"csv_escape": r"'\'"}] if escaped else []), SKIP],
    )
