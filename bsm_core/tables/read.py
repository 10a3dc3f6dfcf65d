"""Reading one or more data files as one table, in windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from bsm_core.errors import DataError
from bsm_core.runtime.durable import in_parallel
from bsm_core.tables import delimited, parquet
from bsm_core.tables.data_files import (
    DELIMITERS,
    Format,
    SourceFormat,
    codec_of,
    discover,
    output_format,
    raise_no_data,
)
from bsm_core.tables.formats import headers, json_lines
from bsm_core.tables.formats.column_types import (
    conform,
    delimiter_in,
    merged_type,
    require_columns,
    require_same_columns,
)
from bsm_core.tables.formats.dialect import DELIMITER, NO_HEADER, Dialect
from bsm_core.tables.formats.folders import root_of
from bsm_core.tables.formats.partitions import partitions_of, with_partitions
from bsm_core.tables.lent_streams import Reader
from bsm_core.tables.windows import Piece, Position, Split, Window, cut, first_left, first_rows


@dataclass(frozen=True)
class TableSource:
    """Data files that are read as one table, in path order.

    Attributes:
        format: Format of all files.
        files: The files, without empty ones.
        columns: Names of the columns, in the order of the first file; those in the names of folders are the last.
        schemas: Arrow schema of each file. All columns of text files have type ``binary``.
        types: Columns that are read with another type, see :meth:`typed`.
        checked: Columns that were checked, see :meth:`with_checked`.
        on_bad_line: Whether a line of a text file that cannot be read as a row is an error or is left out.
        dialect: Dialect of CSV and TSV files, with their delimiter; of the others, the spelling of numbers in text.
        rowless: Whether the rows are those of another, see :meth:`share`.
        partitions: For each file, the values of the columns that stand in the names of folders.
        limit: Number of rows after which the table ends; None: it has all rows of its files.
    """

    format: SourceFormat
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    schemas: tuple[pa.Schema, ...] = field(repr=False)
    types: pa.Schema = field(default=pa.schema([]), repr=False)
    checked: frozenset[str] = field(default=frozenset(), repr=False)
    on_bad_line: Literal["fail", "skip"] = "fail"
    dialect: Dialect = field(default_factory=Dialect)
    rowless: bool = False
    partitions: tuple[Mapping[str, str | None], ...] = field(default=(), repr=False)
    limit: int | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        on_bad_line: Literal["fail", "skip"] = "fail",
        dialect: Dialect | None = None,
        *,
        partitions: bool = True,
    ) -> TableSource:
        """Find the files of a table and read their headers.

        Args:
            path: A data file or a folder.
            on_bad_line: Whether a line of a text file that cannot be read as a row is an error or is left out.
            dialect: Dialect of CSV and TSV files. None: plain CSV or TSV in UTF-8, with a header.
            partitions: Whether names of folders such as ``dt=2026-01-31`` are columns; not those of predictions.

        Raises:
            NoInferenceDataError: There is no data file, or all data files are empty.
            MixedFormatsError: There are data files of two formats.
            DataError: The columns of two files differ, or a file cannot be read.
        """
        dialect = dialect or Dialect()
        format, found = discover(path, dialect.delimiter)
        if format in DELIMITERS:
            declared = None if dialect.delimiter else headers.first_row(found[0], dialect)[1]
            dialect = dialect.with_delimiter(declared or DELIMITERS[format])
        elif format == "parquet":  # its text may be from CSV
            dialect = Dialect(decimal=dialect.decimal, thousands=dialect.thousands)
        files: list[Path] = []
        schemas: list[pa.Schema] = []
        root = root_of(path) if partitions else None
        if format == "jsonl":
            return cls._of_json_lines(path, found, on_bad_line, dialect.of_json_lines())._with_partitions(root)
        read_schema = parquet.read_schema if format == "parquet" else partial(headers.read_schema, dialect=dialect)
        for file, schema in zip(found, in_parallel(read_schema, found), strict=True):
            if schema is None:  # a compressed file whose content is empty
                continue
            # A table may have thousands of files with equal schemas: keep one object for all of them.
            schemas.append(schemas[0] if schemas and schema == schemas[0] else schema)
            files.append(file)
            require_same_columns(files[0], schemas[0], file, schemas[-1])
        if not files:
            raise_no_data(path, list(found))
        table = cls(format, tuple(files), (), tuple(schemas), on_bad_line=on_bad_line, dialect=dialect)
        return table._with_partitions(root)

    @classmethod
    def _of_json_lines(
        cls, path: Path, found: Sequence[Path], on_bad_line: Literal["fail", "skip"], dialect: Dialect
    ) -> TableSource:
        """Open files of JSON lines. Their columns are the keys of all objects."""
        keys = {file: json_lines.read_keys(file, on_bad_line) for file in found}
        files = tuple(file for file in found if keys[file] is not None)
        if not files:
            raise_no_data(path, list(found))
        schema = pa.schema([(name, pa.binary()) for file in files for name in keys[file] or ()])
        schema = pa.schema({field.name: field.type for field in schema})
        schemas = (schema,) * len(files)
        return cls("jsonl", files, (), schemas, on_bad_line=on_bad_line, dialect=dialect)

    def _with_partitions(self, root: Path | None) -> TableSource:
        """Return this table with the columns in the names of folders, see :func:`partitions_of`; None: without them."""
        partitions = partitions_of(self.files, root, self._own) if root else ({},) * len(self.files)
        if partitions[0] and not self._own:
            fix = "look how the files were written; a column in the names of folders is not enough"
            raise DataError("the files have no columns", where=str(self.files[0]), fix=fix)
        return dataclasses.replace(self, columns=(*self._own, *partitions[0]), partitions=partitions)

    @property
    def _own(self) -> tuple[str, ...]:
        """The columns of the files, without those in the names of folders."""
        return tuple(self.schemas[0].names)

    @property
    def output_format(self) -> Format:
        """Format of the predictions unless a setting says otherwise: that of the data, and CSV for JSON lines."""
        return output_format(self.format)

    def require(self, wanted: Mapping[str, str]) -> None:
        """Check that the table has some columns, each once. See :func:`require_columns`."""
        delimiter, header = self.other_delimiter(), self._no_header(wanted)
        hints = [*delimiter, *header]
        settings = [DELIMITER] if delimiter else [NO_HEADER] if header else []
        require_columns(self.columns, wanted, where=str(self.files[0]), hints=hints, settings=settings)

    def other_delimiter(self) -> list[str]:
        """Return a hint if the single column of the header looks like several columns with another delimiter."""
        found = delimiter_in(self._own)
        if self.format in ("parquet", "jsonl") or not found:
            return []
        return [f"the columns seem to be separated by {found}: a .csv file needs ',', a .tsv file needs tabs"]

    def _no_header(self, wanted: Iterable[str]) -> list[str]:
        """Return a hint if no column of a text file is wanted: its first row may be data."""
        if self.format not in DELIMITERS or self.dialect.columns or len(self._own) < 2:
            return []
        found = {name.lower() for name in self._own}.intersection(name.lower() for name in wanted)
        return [] if found else ["the first row may be data and no header"]

    def schema(self, columns: Sequence[str]) -> pa.Schema:
        """Return the types of columns that are written to the output unchanged: the id and the other kept columns.

        Args:
            columns: Names of the columns.

        Returns:
            The Arrow types that the columns have in every window: ``binary`` for CSV and TSV, the types of the files
            for Parquet, or the types that :meth:`typed` has set.

        Raises:
            DataError: A column has different types in two files. A column of nulls fits every type.
            MissingColumnsError: A column is missing.
        """
        return self._schema(columns, convert=False)

    def typed(self, schema: pa.Schema) -> TableSource:
        """Return this table with other types for some columns. Reading a cell that does not fit is an error.

        Args:
            schema: The types, from :func:`output_schema`.
        """
        return dataclasses.replace(self, types=schema)

    def share(self, number: int, of: int, keep: Iterable[str] = ()) -> TableSource:
        """Return this table with every ``of``-th file, beginning with ``number``, from 0; without rows if none is left.

        Args:
            number, of: Number of the share, and of all shares.
            keep: Columns that have the same type in all shares.
        """
        types = self.schema([name for name in keep if name in self.columns])
        rowless = number >= len(self.files)
        part = slice(number, None, of) if not rowless else slice(1)
        files, schemas, partitions = self.files[part], self.schemas[part], self.partitions[part]
        return dataclasses.replace(
            self, files=files, schemas=schemas, partitions=partitions, types=types, rowless=rowless
        )

    def with_checked(self, columns: Iterable[str], done: Mapping[int, Position | None] | None = None) -> TableSource:
        """Check the times of columns that Parquet may store in a form in which not all of them can be read.

        Args:
            columns: Names of columns.
            done: Windows to leave out, see :meth:`windows`.

        Returns:
            This table. :meth:`windows` does not check these columns again, in this process or in another.

        Raises:
            DataError: A time cannot be read, or a file is damaged.
        """
        new = set(columns) - self.checked
        if self.format == "parquet" and new:
            (start, first), found = first_left(done or {})[1], dict[int, list[str]]()
            for number, schema in enumerate(self.schemas):
                if id(schema) not in found:  # files with equal schemas share one object
                    found[id(schema)] = parquet.nanosecond_columns(schema, new)
                if number >= start and (names := found[id(schema)]):
                    parquet.require_years_of_nanoseconds(self.files[number], names, first if number == start else 0)
        return dataclasses.replace(self, checked=self.checked | new)

    def windows(
        self, columns: Sequence[str], *, rows: int = 4096, done: Mapping[int, Position | None] | None = None
    ) -> Reader[Window]:
        """Read the table in windows of exactly ``rows`` rows. Only the last window may have fewer.

        Close the reader, with ``contextlib.closing``, where it may not be read to its end.

        A window may contain rows of several files. A table without rows is one window without rows. A column with
        different types in Parquet files, such as int64 and float64, has a union of them, so that a value keeps its
        text, unless one of the types is enough for that; call :meth:`schema` first for columns that must have one type.

        Args:
            columns: Names of the columns to read, at least one, each once. Other columns are not parsed.
            rows: Number of rows of a window.
            done: Windows to leave out, by index, each with its ``end``. They are not read, except those between a
                window whose ``end`` is unknown and the next window whose ``end`` is known, and those of a compressed
                file after the first window that is read.

        Raises:
            MissingColumnsError: A column is missing.
            DataError: A file is damaged, a row has too many or too few cells, or a cell of a ``string`` column is not
                UTF-8. Before the first window: see :meth:`with_checked`.
        """
        if rows < 1 or not columns or len(set(columns)) < len(columns):
            raise ValueError("windows need at least one row and at least one column, and each column once")
        schema, done = self._schema(columns, convert=True), done or {}
        return Reader(self.with_checked(columns, done)._windows(schema, rows, done))

    def _windows(
        self, schema: pa.Schema, rows: int, done: Mapping[int, Position | None]
    ) -> Generator[Window, None, None]:
        index, start = first_left(done)
        if self.rowless and not done:
            yield from cut(iter(()), schema, rows, 0, Position(len(self.files), 0))
            return
        while start.file < len(self.files):
            pieces = self._pieces(schema, rows, start)
            if self.limit is not None:
                pieces = first_rows(pieces, self.limit - index * rows)
            windows = cut(pieces, schema, rows, index, Position(len(self.files), 0), self._share)
            with closing(pieces), closing(windows):
                for window in windows:
                    if window.index not in done:
                        yield self._within_limit(window)
                    index = window.index + 1
                    if window.last:
                        return
                    if (known := done.get(index)) is not None and not self._goes_on(window, known):
                        index, start = first_left(done, index)
                        break

    def _within_limit(self, window: Window) -> Window:
        """Return a window with the share that its end is of the rows up to the limit, if there is one."""
        if self.limit is None or window.last:
            return window
        return dataclasses.replace(window, fraction=(window.start + len(window.table)) / self.limit)

    def windows_of(self, split: Split, columns: Sequence[str], *, rows: int = 4096) -> Reader[Window]:
        """Read the windows of a split, and nothing else of the table.

        Args:
            split: The split, from :func:`bsm_core.tables.splits.splits_of`.
            columns, rows: See :meth:`windows`.

        Raises:
            DataError: See :meth:`windows`; or the file was changed since the split was found.
        """
        return Reader(self._windows_of(split, self._schema(columns, convert=True), rows))

    def _windows_of(self, split: Split, schema: pa.Schema, rows: int) -> Generator[Window, None, None]:
        found, final = 0, split.first + split.windows - 1
        pieces = self._pieces(schema, rows, split.start, split.end)
        windows = cut(pieces, schema, rows, split.first, split.end, self._share, last=split.last)
        with closing(pieces), closing(windows):
            for window in windows:
                found += len(window.table)
                if window.index < final:
                    yield window
        if window.index != final or not (split.last or len(window.table) == rows):
            what = f"{split.windows * rows:,} rows were found here before, and {found:,} now"
            where, fix = str(self.files[split.start.file]), "look whether the file changes while it is read"
            raise DataError(what, where=where, fix=fix)
        yield window

    def _goes_on(self, window: Window, end: Position) -> bool:
        """Return whether to read on through the next window, which is done and has this end, and not begin after it.

        To begin within a file that is compressed or translated, all of it before that place is read again.
        """
        file = window.end.file if window.end else None
        return file == end.file and (self.dialect.translated or codec_of(self.files[end.file]) is not None)

    def _schema(self, columns: Sequence[str], *, convert: bool) -> pa.Schema:
        self.require(dict.fromkeys(columns, "the reader"))
        given, found = dict(zip(self.types.names, self.types.types, strict=True)), self._kinds
        text = pa.string() if self.format == "parquet" else pa.binary()
        given = {**dict.fromkeys(self.partitions[0], text), **given}
        return pa.schema([(name, given.get(name) or merged_type(name, found, convert=convert)) for name in columns])

    @cached_property
    def _kinds(self) -> list[tuple[Path, dict[str, pa.DataType]]]:
        """The columns of files with different schemas, each with the first file that has them.

        Kept, as is ``_begins``: a process reads thousands of splits of a table that may have thousands of files.
        """
        # Not schema.field(name), which looks at every column. Files with equal schemas share one object.
        kinds: dict[int, tuple[Path, dict[str, pa.DataType]]] = {}
        for file, schema in zip(self.files, self.schemas, strict=True):
            if id(schema) not in kinds:
                kinds[id(schema)] = file, dict(zip(schema.names, schema.types, strict=True))
        return list(kinds.values())

    @cached_property
    def _begins(self) -> list[int]:
        """Number of bytes before each file, and of all: for the share of the input that was read."""
        return list(accumulate((file.stat().st_size for file in self.files), initial=0))

    def _share(self, place: Position) -> float | None:
        """Return the share of the bytes of all files that come before a place; None if that is unknown."""
        number, offset = place
        if offset and (self.format == "parquet" or self.dialect.translated or codec_of(self.files[number])):
            return None  # the offset is no byte of the file
        return (self._begins[number] + offset) / self._begins[-1]

    def _pieces(
        self, schema: pa.Schema, rows: int, start: Position, end: Position | None = None
    ) -> Generator[Piece, None, None]:
        own = pa.schema([field for field in schema if field.name not in self.partitions[0]])
        if not len(own) and self.format != "parquet":  # the rows of text are known only with a column
            own = pa.schema([self.schemas[0].field(0)])
        begins = self._begins
        for number in range(start.file, min(len(self.files), end.file + 1) if end else len(self.files)):
            file, offset = self.files[number], start.offset if number == start.file else 0
            stop = end.offset if end and number == end.file else None
            if self.format == "parquet":
                batches = parquet.read_batches(file, own.names, rows, offset, stop)
            elif self.format == "jsonl":
                batches = json_lines.read_batches(file, own, rows, offset, self.on_bad_line)
            else:
                all_of_file = self.schemas[number]
                batches = delimited.read_batches(file, self.dialect, all_of_file, own, offset, self.on_bad_line, stop)
            for batch, share, offsets, odd, bad_lines in batches:
                ends = np.column_stack([np.full_like(offsets, number), offsets, odd])
                before, after = begins[number : number + 2]
                fraction = (before + share * (after - before)) / begins[-1]
                table = with_partitions(conform(batch, own, file), schema, self.partitions[number], len(batch))
                yield Piece(table, fraction, ends, bad_lines)
