"""One table out of one or many files, read in windows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import DataError
from bsm_core.tables import delimited as text
from bsm_core.tables import parquet
from bsm_core.tables.data_files import Format, detect_format, discover, raise_no_data
from bsm_core.tables.required_columns import require_columns


@dataclass(frozen=True)
class Window:
    """A run of consecutive rows of the whole table.

    Attributes:
        index: Number of the window: 0, 1, 2, ...
        start: Number of its first row in the whole table.
        table: The columns asked for, in the order asked for. Its columns may be slices of larger buffers.
        last: No window follows.
        fraction: Share of the input read when this window was cut, 0 to 1 and never falling; for progress.
    """

    index: int
    start: int
    table: pa.Table
    last: bool
    fraction: float


@dataclass(frozen=True)
class TableSource:
    """Data files that are read as one table, in path order.

    Attributes:
        format: The format of all files.
        files: The files that hold the table.
        columns: Names of the columns, as the first file has them.
        schemas: The Arrow types in each file; text files have ``binary`` columns only.
        types: The types of columns that are read as others; see :meth:`typed`.
    """

    format: Format
    files: tuple[Path, ...]
    columns: tuple[str, ...]
    schemas: tuple[pa.Schema, ...] = field(repr=False)
    types: pa.Schema = field(default=pa.schema([]), repr=False)

    @classmethod
    def open(cls, path: Path) -> TableSource:
        """Find the files of a table and read their headers.

        Args:
            path: A data file or a folder.

        Raises:
            NoInferenceDataError: There is no data file, or all are empty.
            MixedFormatsError: There are data files of two formats.
            DataError: The columns of two files differ, or a file cannot be read.
        """
        found = discover(path)
        format = detect_format(found[0])
        files: list[Path] = []
        schemas: list[pa.Schema] = []
        for file in found:
            schema = parquet.read_schema(file) if format == "parquet" else text.read_schema(file, format)
            if schema is None:  # nothing inside, once unpacked
                continue
            # Part-files come by the thousands and have one schema: keep it once.
            schemas.append(schemas[0] if schemas and schema == schemas[0] else schema)
            files.append(file)
            _check_same_columns(files[0], schemas[0], file, schemas[-1])
        if not files:
            raise_no_data(path, list(found))
        return cls(format, tuple(files), tuple(schemas[0].names), tuple(schemas))

    def require(self, wanted: Mapping[str, str]) -> None:
        """Check that the table has columns.

        Args:
            wanted: Names of columns, and who wants each (a config key or a setting).

        Raises:
            MissingColumnsError: Columns are missing; all of them are named.
            DataError: The header has a wanted column twice.
        """
        require_columns(self.columns, wanted, where=str(self.files[0]), hints=self._other_delimiter())

    def _other_delimiter(self) -> list[str]:
        """Return a hint if the single column of the header looks like several columns with another delimiter."""
        marks = {";": "';'", "\t": "a tab", "|": "'|'", ",": "','"}
        found = [name for mark, name in marks.items() if len(self.columns) == 1 and mark in self.columns[0]]
        if self.format == "parquet" or not found:
            return []
        return [f"the columns seem to be separated by {found[0]}: a .csv file needs ',', a .tsv file needs tabs"]

    def schema(self, columns: Sequence[str]) -> pa.Schema:
        """The types of columns that reach the output unchanged: the id and the columns kept.

        Args:
            columns: Names of columns.

        Returns:
            The Arrow types these columns have in every window: ``binary`` for CSV and TSV, their own for Parquet,
            unless :meth:`typed` gave them others.

        Raises:
            DataError: A column has not the same type in all files. Columns of nulls alone fit every type.
            MissingColumnsError: A column is missing.
        """
        return self._schema(columns, convert=False)

    def typed(self, schema: pa.Schema) -> TableSource:
        """The same table, with some columns read as other types: a cell that does not fit is found as it is read.

        Args:
            schema: What :func:`output_schema` gave for :meth:`schema`.
        """
        return dataclasses.replace(self, types=schema)

    def windows(self, columns: Sequence[str], *, rows: int = 4096) -> Iterator[Window]:
        """Read the table in windows of exactly ``rows`` rows (the last may be shorter), across the borders of files.

        A table without rows is one window without rows. A column whose numeric type differs between Parquet files
        is promoted to one that takes all; call :meth:`schema` first for those that must not change.

        Args:
            columns: Columns to read, at least one and each once; no other is parsed.
            rows: Rows of a window.

        Raises:
            MissingColumnsError: A column is missing.
            DataError: A file is damaged or has ragged rows, the types of a column have nothing in common, or a cell
                that is to be a string is not UTF-8.
        """
        if rows < 1 or not columns or len(set(columns)) < len(columns):
            raise ValueError("windows are at least one row of at least one column, each asked for once")
        schema = self._schema(columns, convert=True)
        return _cut(self._pieces(columns, schema, rows), schema, rows)

    def _schema(self, columns: Sequence[str], *, convert: bool) -> pa.Schema:
        self.require(dict.fromkeys(columns, "the reader"))
        return pa.schema([(name, self._type(name, convert=convert)) for name in columns])

    def _type(self, column: str, *, convert: bool) -> pa.DataType:
        if column in self.types.names:
            return self.types.field(column).type
        merged = self.schemas[0].field(column).type
        for file, schema in zip(self.files, self.schemas, strict=True):
            other = schema.field(column).type
            try:
                merged = merged if other == merged else _merge(merged, other, convert=convert)
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise DataError(
                    f"column {column!r} is {other} here and {merged} in the files before",
                    where=str(file),
                    fix="write all files with the same type for this column",
                ) from error
        return merged

    def _pieces(self, columns: Sequence[str], schema: pa.Schema, rows: int) -> Iterator[tuple[pa.Table, float]]:
        sizes = [file.stat().st_size for file in self.files]
        before = 0
        for file, size, own in zip(self.files, sizes, self.schemas, strict=True):
            if self.format == "parquet":
                batches = parquet.read_batches(file, columns, rows)
            else:
                batches = text.read_batches(file, self.format, own, schema)
            for batch, share in batches:
                yield _conform(batch, schema, file), (before + share * size) / sum(sizes)
            before += size


def _cut(pieces: Iterator[tuple[pa.Table, float]], schema: pa.Schema, rows: int) -> Iterator[Window]:
    index, held, count = 0, [schema.empty_table()], 0
    for piece, fraction in pieces:
        held.append(piece)
        count += len(piece)
        # A full window waits for one row more: only then it is known not to be the last.
        if count <= rows:
            continue
        table = pa.concat_tables(held)
        while len(table) > rows:
            yield Window(index, index * rows, table.slice(0, rows), last=False, fraction=fraction)
            table = table.slice(rows)
            index += 1
        held, count = [table], len(table)
    yield Window(index, index * rows, pa.concat_tables(held), last=True, fraction=1.0)


def _check_same_columns(first: Path, expected: pa.Schema, file: Path, schema: pa.Schema) -> None:
    lacks = Counter(expected.names) - Counter(schema.names)
    has = Counter(schema.names) - Counter(expected.names)
    if lacks or has:
        raise DataError(
            f"the columns differ from those of {first}",
            where=str(file),
            details=[
                f"{what}: {', '.join(map(repr, names))}" for what, names in (("lacks", lacks), ("adds", has)) if names
            ],
            fix="files that are read as one table must have the same columns",
        )


def _merge(one: pa.DataType, other: pa.DataType, *, convert: bool) -> pa.DataType:
    """A type that takes the values of both; only with ``convert`` one in which a value may look different."""
    kinds, promote = [one, other], "default"
    values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    if all(map(pa.types.is_dictionary, kinds)) and values[0] == values[1]:
        promote = "permissive"  # the width of the indices is no part of a value
    elif convert and pa.null() not in kinds:
        kinds, promote = values, "permissive"
    schemas = [pa.schema([("column", kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options=promote).field(0).type


def _conform(batch: pa.RecordBatch, schema: pa.Schema, file: Path) -> pa.Table:
    columns = []
    for wanted, column in zip(schema, batch.columns, strict=True):
        if column.type != wanted.type:
            try:
                # Promoting a large integer to float may round it, as any reader of numbers would.
                column = column.cast(options=pc.CastOptions(wanted.type, allow_float_truncate=True))
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"column {wanted.name!r} does not fit {wanted.type}, its type in other files: {error}",
                    where=str(file),
                    fix="write all files with the same type for this column",
                ) from error
        columns.append(column)
    return pa.table(columns, schema=schema)
