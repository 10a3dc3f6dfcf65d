"""Writing a table as a stream, in CSV, TSV or Parquet."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from bsm_core.errors import DataError
from bsm_core.tables.cell_values import printed
from bsm_core.tables.data_files import DELIMITERS, Format, SourceFormat, codec_of
from bsm_core.tables.formats.plain_values import holds_text, plain_values

log = logging.getLogger("bsm")

# A Parquet row group is written when it has this number of rows, or of bytes in memory.
_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 1 << 26


def output_schema(schema: pa.Schema, source: SourceFormat, destination: Format) -> pa.Schema:
    """Return the types of columns in the output.

    The types do not change, with one exception: ``binary`` cells of text files become ``string`` in Parquet; those of
    JSON lines in every format, because a string of JSON that is not Unicode has no bytes.

    Args:
        schema: Types of the columns in the input, from :meth:`TableSource.schema`.
        source: Format of the input.
        destination: Format of the output.

    Raises:
        DataError: Values of a column cannot be written as text (CSV and TSV).
    """
    if destination != "parquet":
        _check_flat(schema)
    if source == "parquet" or (destination != "parquet" and source != "jsonl"):
        return schema
    return pa.schema([(f.name, pa.string() if pt.is_binary(f.type) else f.type) for f in schema])


class TableWriter(AbstractContextManager["TableWriter"]):
    """Context manager that writes tables, one after the other, into one file.

    CSV and TSV: a cell is quoted only if necessary, and lines end with ``\\n``. A null is an empty cell, and so is NaN
    unless its column is one of ``shortest``. Bytes are written unchanged, and other values have the text that a run
    reads from them (:func:`bsm_core.tables.cell_values.printed`). Of a date or time that has no text, the number in
    memory is written, with a warning. If the file name ends in ``.gz``, ``.zst``, ..., the file is compressed. Parquet:
    a row group has about 64 thousand rows.

    Args:
        path: File to write. An existing file is overwritten.
        schema: Columns of the file and their types. For columns of the input, :func:`output_schema` returns them.
        format: Format of the file; the file name does not matter.
        shortest: Columns of floats that are written with the fewest digits that read back as the same number, without
            ``.0``, and NaN as ``nan``: the probabilities.

    Raises:
        ValueError: There is no such format.
        DataError: Values of a column cannot be written as text (CSV and TSV).
        OSError: The file cannot be written. :meth:`write` and :meth:`close` raise this error too.
    """

    def __init__(self, path: Path, schema: pa.Schema, format: Format, shortest: Collection[str] = ()) -> None:
        self._schema = schema
        self._shortest = frozenset(shortest)
        self._delimiter = DELIMITERS.get(format)
        self._as_numbers = set[str]()  # columns of which a warning was logged
        self._held: list[pa.Table] = []
        self._parquet: pq.ParquetWriter | None = None
        if self._delimiter:
            _check_flat(schema)
        elif format != "parquet":
            raise ValueError(f"a table cannot be written in the format {format!r}")
        self._file = pa.output_stream(os.fspath(path), compression=codec_of(path) if self._delimiter else None)
        try:
            if self._delimiter:
                self._write_header(self._delimiter)
            else:
                others = [field.name for field in schema if not pt.is_fixed_size_list(field.type)]
                repeat = True if len(others) == len(schema) else others  # the numbers of vectors do not
                self._parquet = pq.ParquetWriter(self._file, schema, write_page_checksum=True, use_dictionary=repeat)
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is not None:
            self._held.clear()
        self.close()

    def write(self, table: pa.Table) -> None:
        """Append rows.

        Args:
            table: Table with the columns of the schema, in the same order.
        """
        if table.schema.names != self._schema.names:
            raise ValueError(f"columns {table.schema.names} do not fit the columns {self._schema.names} of the file")
        table = pa.table(table.columns, schema=self._schema)
        if self._delimiter:
            for batch in table.combine_chunks().to_batches():  # a call takes as long for one row as for a thousand
                self._write_lines(batch.columns)
            return
        self._held.append(table)
        if sum(map(len, self._held)) >= _GROUP_ROWS or sum(t.nbytes for t in self._held) >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write the rows that are held for the next row group, and close the file. A second call does nothing."""
        with self._file, self._parquet or nullcontext():
            self._write_group()

    def _write_group(self) -> None:
        if self._held and self._parquet:
            # Two windows may have categories with different dictionaries.
            self._parquet.write_table(pa.concat_tables(self._held).unify_dictionaries())
        self._held.clear()

    def _write_header(self, delimiter: str) -> None:
        names = _quoted(pa.array(self._schema.names, pa.large_binary()), delimiter).to_pylist()
        self._file.write(b'""\n' if names == [b""] else delimiter.encode().join(names) + b"\n")

    def _write_lines(self, columns: Sequence[pa.Array]) -> None:
        delimiter = self._delimiter or ""
        named = zip(self._schema.names, columns, strict=True)
        cells = [_quoted(self._texts(name, column), delimiter) for name, column in named]
        if len(cells) == 1:  # quote an empty cell: readers ignore empty lines
            cells = [pc.if_else(pc.equal(pc.binary_length(cells[0]), 0), _bytes('""'), cells[0])]
        cells[-1] = pc.binary_join_element_wise(cells[-1], _bytes("\n"), _bytes(""))
        lines = pc.binary_join_element_wise(*cells, _bytes(delimiter))
        self._file.write(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), _bytes(""))[0].as_buffer())

    def _texts(self, name: str, column: pa.Array) -> pa.Array:
        column = plain_values(column)
        cells = _cells(column, shortest=name in self._shortest)
        if pt.is_temporal(column.type) and cells.null_count > column.null_count:
            numbers = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64()).cast(pa.large_string())
            if name not in self._as_numbers:
                self._as_numbers.add(name)
                row = pc.index(pc.and_(cells.is_null(), column.is_valid()), True).as_py()
                what = "column %r: a date or time that is out of range has no text: its number is written, such as %s"
                log.warning(what, name, numbers[row])
            cells = pc.coalesce(cells, numbers.cast(pa.large_binary()))
        return cells.fill_null(b"")


def _check_flat(schema: pa.Schema) -> None:
    for field in {str(field.type): field for field in reversed(list(schema))}.values():  # the first one of each type
        in_zone = False
        try:
            column = plain_values(pa.nulls(0, field.type))
            in_zone = pt.is_timestamp(column.type) and column.type.tz not in (None, "UTC")
            if in_zone:  # a time zone is looked up for a value, not for an empty column
                column = pa.array([0], pa.int64()).cast(column.type)
            _cells(column, shortest=True)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            fix = "write parquet, or leave the column out"
            if in_zone:
                fix = "write parquet, leave the column out, or install the time zones of the system (package tzdata)"
            raise DataError(
                f"values of type {field.type} cannot be written as csv or tsv: {error}",
                where=f"column {field.name!r}",
                fix=fix,
            ) from error


def _cells(column: pa.Array, *, shortest: bool = False) -> pa.Array:
    """Return the bytes of each cell of a column. A null, and a value that has no text, are null.

    A value of an extension type is written as its storage, and a UUID in the form with hyphens.
    """
    column = plain_values(column)
    if not holds_text(column.type):
        column = column.cast(pa.large_string()) if shortest else printed(column)
    return column.cast(pa.large_binary())


def _quoted(cells: pa.Array, delimiter: str) -> pa.Array:
    special = pc.match_substring_regex(cells, f'[{delimiter}"\n\r]')
    if not pc.any(special).as_py():
        return cells
    doubled = pc.replace_substring(cells, b'"', b'""')
    quote = _bytes('"')
    return pc.if_else(special, pc.binary_join_element_wise(quote, doubled, quote, _bytes("")), cells)


def _bytes(text: str) -> pa.Scalar:
    return pa.scalar(text.encode(), pa.large_binary())
