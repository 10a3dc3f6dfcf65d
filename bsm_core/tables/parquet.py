"""Reading Parquet files: columns with their own Arrow type, without a whole row group in memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bsm_core.errors import DataError
from bsm_core.storage.objects import ObjectPath
from bsm_core.tables.delimited import FileRows
from bsm_core.tables.formats.headers import reading
from bsm_core.tables.lent_streams import arrow_file

# In bytes, for each column. pandas writes up to a million rows as one row group. Without pre-buffering, and with a
# bounded buffer, pages of a row group are read only when their rows are needed.
_BUFFER_SIZE, _BUFFER_SIZE_OF_OBJECT = 1 << 18, 1 << 21

# Name of an unnamed pandas index. It is not a column of the table.
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_schema(path: Path) -> pa.Schema:
    """Return the columns of a Parquet file with their Arrow types, without metadata.

    Raises:
        DataError: The file is not a Parquet file.
    """
    with reading(path), arrow_file(path) as file:
        fields = pq.read_schema(file)
    return pa.schema([(field.name, field.type) for field in fields if not _UNNAMED_INDEX.fullmatch(field.name)])


def _buffered(path: Path) -> dict[str, Any]:
    """Return options of a Parquet file; of an object, a request is worth more bytes than of a file."""
    size = _BUFFER_SIZE_OF_OBJECT if isinstance(path, ObjectPath) else _BUFFER_SIZE
    return {"pre_buffer": False, "buffer_size": size}


def nanosecond_columns(schema: pa.Schema, columns: Collection[str]) -> list[str]:
    """Return those of some columns that hold times in nanoseconds, which may be stored as INT96."""
    wanted = set(columns)
    return [field.name for field in schema if field.name in wanted and _has_nanoseconds(field.type)]


def require_years_of_nanoseconds(path: Path, columns: Collection[str], first: int = 0) -> None:
    """Check the times that are stored as INT96. Arrow reads a time outside of the years 1677 to 2262 as another one.

    Args:
        path: The file.
        columns: Columns to check, from :func:`nanosecond_columns`.
        first: Number of rows to leave out, see :func:`read_batches`.

    Raises:
        DataError: A time is outside of these years, or the file cannot be read.
    """
    with (
        reading(path),
        arrow_file(path) as source,
        pq.ParquetFile(source, **_buffered(path), coerce_int96_timestamp_unit="ms") as file,
    ):
        wanted = _stored_as_int96(file).intersection(columns)
        groups, _ = _row_groups(file, first)
        for batch in file.iter_batches(columns=sorted(wanted), row_groups=groups) if wanted and groups else ():
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if name not in wanted:  # for "a.b", Arrow reads b of a struct a too
                    continue
                try:
                    for times in _times(column):
                        times.cast(pa.timestamp("ns", times.type.tz))
                except pa.ArrowInvalid as error:
                    raise DataError(
                        f"column {name!r} has times outside of the years 1677 to 2262, stored as INT96",
                        where=str(path),
                        fix="write the times in microseconds: for Spark, set spark.sql.parquet.outputTimestampType to "
                        "TIMESTAMP_MICROS",
                    ) from error


def _has_nanoseconds(kind: pa.DataType) -> bool:
    """Return whether a type is the one of times in INT96, or holds it."""
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return bool(pa.types.is_timestamp(kind) and kind.unit == "ns") or any(map(_has_nanoseconds, inner))


def row_group_sizes(path: Path) -> list[int]:
    """Return the number of rows of each row group of a Parquet file.

    Raises:
        DataError: The file is not a Parquet file.
    """
    with reading(path), arrow_file(path) as file:
        metadata = pq.read_metadata(file)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def _row_groups(file: pq.ParquetFile, first: int, stop: int | None = None) -> tuple[list[int], int]:
    """Return the row groups that hold rows from one number on to another, and the number of rows before them."""
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    begins = list(accumulate(sizes, initial=0))
    groups = [n for n, size in enumerate(sizes) if begins[n] + size > first and (stop is None or begins[n] < stop)]
    return groups, begins[groups[0]] if groups else begins[-1]


def _stored_as_int96(file: pq.ParquetFile) -> set[str]:
    """Return the columns with values that are stored as INT96."""
    metadata = file.metadata
    leaves = [metadata.schema.column(number).physical_type == "INT96" for number in range(metadata.num_columns)]
    found, start = set(), 0
    for field in file.schema_arrow if any(leaves) else ():  # in the path of a leaf, dots of names are not escaped
        end = start + _leaves(field.type)
        if any(leaves[start:end]):
            found.add(field.name)
        start = end
    return found


def _leaves(kind: pa.DataType) -> int:
    """Return the number of columns in which Parquet stores a type."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return sum(_leaves(kind.field(number).type) for number in range(kind.num_fields)) or 1


def _times(column: pa.Array) -> Iterator[pa.Array]:
    """Yield the times of a column, and those in its lists, structs and maps."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        yield column
    elif pa.types.is_map(kind):
        yield from chain(_times(column.keys), _times(column.items))
    elif pa.types.is_struct(kind):
        yield from chain.from_iterable(map(_times, column.flatten()))
    elif pa.types.is_nested(kind):
        yield from _times(column.flatten())


def _has_nested_categories(kind: pa.DataType) -> bool:
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(pa.types.is_dictionary(other) or _has_nested_categories(other) for other in inner)


def read_batches(
    path: Path, columns: Sequence[str], rows: int, first: int = 0, stop: int | None = None
) -> Iterator[FileRows]:
    """Read the rows of a Parquet file, whose times :func:`require_years_of_nanoseconds` has checked.

    Args:
        path: The file.
        columns: Columns to read; other columns are not decoded.
        rows: Maximum number of rows of a record batch.
        first: Number of rows to leave out. Row groups that hold only such rows are not read.
        stop: Number of rows after which nothing is read. None: all.

    Raises:
        DataError: The file is damaged.
    """
    with (
        reading(path),
        arrow_file(path) as source,
        pq.ParquetFile(source, **_buffered(path), page_checksum_verification=True) as file,
    ):
        groups, done = _row_groups(file, first, stop)
        # Arrow reads categories in a list or struct only within one row group.
        read = set(columns)
        nested = any(_has_nested_categories(field.type) for field in file.schema_arrow if field.name in read)
        for batch in chain.from_iterable(
            file.iter_batches(batch_size=rows, row_groups=some, columns=columns)
            for some in ([[group] for group in groups] if nested else [groups])
        ):
            begin, done = done, done + len(batch)
            ends = np.arange(max(first, begin), done if stop is None else min(stop, done)) + 1
            if len(ends):
                batch = batch.slice(int(ends[0]) - 1 - begin, len(ends))
                place = {name: i for i, name in enumerate(batch.schema.names)}  # select() looks for each name anew
                batch = batch.select([place[name] for name in columns])
                share, odd = done / max(1, file.metadata.num_rows), np.zeros((len(ends), 2), np.int64)
                yield FileRows(batch, share, ends, odd)
            if stop is not None and done >= stop:  # the rest of a row group is another split's
                return
