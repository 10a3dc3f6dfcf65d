"""Headers of CSV and TSV files: the names of the columns, and the lines that other programs write before them."""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from bsm_core.errors import BSMError, DataError, why_unreadable
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.first_bytes import FileKind, misnamed
from bsm_core.tables.formats.text_stream import TextStream, text_lines

_LONGEST_HEADER, MOST_COLUMNS = 1 << 24, 100_000
"""Limits on the characters before the first row, and on columns: a small compressed file can hold any number."""

_DECLARATION = re.compile(rb'(?:(?i:"?sep=(?P<mark>[^"\r\n\x80-\xff])"?)|#TYPE [A-Za-z_][^,;|\t \r\n]*)(?:\r\n|\r|\n)')
_LONGEST_DECLARATION = 1 << 10
_NOT_UTF8 = "save the file as UTF-8"
_NO_HEADER = re.compile(r"[^\n]*\x00|PK\x03|<|\[?\s*\{|version https://")
"""Beginning of a header that shows that the file is no CSV or TSV; misnamed() says what it is."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of Arrow and of the operating system about a file into a :class:`DataError`."""
    try:
        yield
    except BSMError:  # such as that of an object store
        raise
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        fix = "the file may be cut off or damaged"
        if isinstance(error, OSError) and error.errno:
            reason, fix = why_unreadable(error)
        elif kind := misnamed(path):
            raise _of_kind(path, kind) from error
        if isinstance(error, pa.ArrowNotImplementedError):
            fix = "write the file with other types, such as plain values in place of nested categories"
        raise DataError(f"cannot be read: {reason}", where=str(path), fix=fix) from error


def _of_kind(path: Path, kind: FileKind) -> DataError:
    return DataError(f"cannot be read: the file is {kind.what}", where=str(path), fix=kind.fix, settings=kind.settings)


def read_schema(path: Path, dialect: Dialect) -> pa.Schema | None:
    """Return the columns of a text file, all with type ``binary``.

    Args:
        path: The file.
        dialect: Dialect of the file, with its delimiter.

    Returns:
        The schema, or None if the file has no content, not even a header.

    Raises:
        DataError: The header is not UTF-8 or not CSV, or the file cannot be read.
    """
    begin, delimiter = first_row(path, dialect)
    if delimiter not in (None, dialect.mark):
        raise DataError(
            f"the first line says that {delimiter!r} separates the cells, and not {dialect.mark!r}",
            where=f"{path}, line 1",
            fix="remove the line, or write all files with one delimiter",
            settings=[{"csv_delimiter": repr(delimiter)}],
        )
    with reading(path), TextStream(path, dialect, offset=begin) as stream:
        rows = csv.reader(_header_lines(path, stream), delimiter=dialect.mark, strict=True)
        try:
            header: list[str] = next(filter(None, rows), [])
            "".join(header).encode()
            if header and _NO_HEADER.match(header[0]) and (kind := misnamed(path)):
                raise _of_kind(path, kind)
        except (csv.Error, UnicodeEncodeError) as error:
            if dialect.encoding is None and (kind := misnamed(path)):
                raise _of_kind(path, kind) from error
            in_quotes = isinstance(error, csv.Error)
            raise DataError(
                f"the header cannot be read: {error if in_quotes else 'it is not UTF-8'}",
                where=f"{path}, line 1",
                fix="close every quote in the header, and double a quote within quotes" if in_quotes else _NOT_UTF8,
                settings=[] if in_quotes else [{"csv_encoding": "NAME"}],
            ) from error
    if dialect.columns is not None and header:
        header = _named_columns(path, dialect, dialect.columns, header)
    if len(header) > MOST_COLUMNS:
        what = f"the header has {len(header):,} columns; at most {MOST_COLUMNS:,} are read"
        raise DataError(what, where=f"{path}, line 1", fix="look whether the file is CSV or TSV with a header")
    return pa.schema([(name, pa.binary()) for name in header]) if header else None


def _named_columns(path: Path, dialect: Dialect, names: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return the names of the columns of a file without a header."""
    if len(names) != len(first):
        named = f"{dialect.name_of('csv_columns')} names {len(names)} column(s)"
        what = f"the first row has {len(first)} cell(s), and {named}"
        raise DataError(what, where=f"{path}, line 1", fix="name each column once, in the order of the cells")
    if [*names] == [cell.strip() for cell in first]:
        what = "the first row holds the names of the columns, and would be read as a row"
        flags = " and ".join(map(dialect.name_of, ("csv_header", "csv_columns")))
        raise DataError(what, where=f"{path}, line 1", fix=f"leave out {flags}, or remove this row from every file")
    return [*names]


def _header_lines(path: Path, stream: TextStream) -> Iterator[str]:
    text, left = text_lines(stream), _LONGEST_HEADER
    while line := text.readline(left + 1):
        left -= len(line)
        if left < 0:
            what = f"there is no header in the first {_LONGEST_HEADER:,} characters"
            raise DataError(what, where=str(path), fix="look whether the file is a table with a header")
        yield line


def first_row(path: Path, dialect: Dialect) -> tuple[int, str | None]:
    """Return the position of a file's first row, and the delimiter that a line before it declares, if there is one.

    Before the first row can stand a byte order mark, the line ``sep=;`` of Excel, and the line ``#TYPE ...`` of
    PowerShell.

    Raises:
        DataError: The file cannot be read.
    """
    with reading(path), TextStream(path, dialect) as stream:
        head = stream.read(_LONGEST_DECLARATION)
    begin = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0
    if match := _DECLARATION.match(head, begin):
        return match.end(), match["mark"].decode() if match["mark"] else None
    return begin, None
