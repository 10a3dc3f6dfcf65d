"""Partitions of Hive: columns whose values stand in the names of folders, such as ``year=2026/part-0.parquet``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from bsm_core.errors import DataError

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_MISSING = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(files: Sequence[Path], root: Path, columns: Sequence[str]) -> tuple[Mapping[str, str | None], ...]:
    """Return the values of the partition columns of each file; files of a partition share one object.

    The names of folders below ``root`` count, and those of ``root`` itself and of the folders above it, up to the first
    one that is no partition. A column that the files have too is theirs.

    Args:
        files: The files.
        root: The folder, or the part of the pattern before its first wildcard.
        columns: Columns of the files.

    Returns:
        For each file, the value of each partition column; None for a missing value.

    Raises:
        DataError: The files have different partition columns.
    """
    above = list(takewhile(_FOLDER.fullmatch, reversed(root.parts)))[::-1]
    found: dict[Path, dict[str, str | None]] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        inside = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
        found[folder] = dict(_values([*above, *inside], set(columns)))
    first, names = next(iter(found.items()))
    for folder, values in found.items():
        if values.keys() != names.keys():
            what = f"the folders have other partition columns than {first}"
            details = [
                f"{place}: {', '.join(map(repr, had)) or 'none'}" for place, had in ((first, names), (folder, values))
            ]
            raise DataError(what, where=str(folder), details=details, fix="give each table a folder of its own")
    return tuple(found[file.parent] for file in files)


def _values(parts: Sequence[str], columns: set[str]) -> Iterator[tuple[str, str | None]]:
    for part in parts:
        if (match := _FOLDER.fullmatch(part)) and (name := unquote(match[1])) not in columns:
            yield name, None if match[2] == _MISSING else unquote(match[2])


def with_partitions(table: pa.Table, schema: pa.Schema, values: Mapping[str, str | None]) -> pa.Table:
    """Return the rows of a file with the columns of a schema, of which some stand in the names of folders.

    Args:
        table: The other columns.
        schema: The columns.
        values: Values of partition columns.
    """
    if table.schema.names == schema.names:
        return table
    columns = []
    for field in schema:
        if field.name in values:
            value = pa.scalar(values[field.name], pa.string()).cast(field.type)
            columns.append(pa.repeat(value, len(table)))
        else:
            columns.append(table.column(field.name))
    return pa.table(columns, schema=schema)
