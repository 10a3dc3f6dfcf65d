"""Partitions of Hive: columns whose values stand in the names of folders, such as ``year=2026/part-0.parquet``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from bsm_core.errors import DataError

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_MISSING = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(files: Sequence[Path], root: Path, columns: Sequence[str]) -> tuple[Mapping[str, str | None], ...]:
    """Return the values of the partition columns of each file; files of a partition share one object.

    The names of folders below :func:`table_of` the root count. A column that the files have too is theirs.

    Args:
        files: The files.
        root: The folder, or the part of the pattern before its first wildcard.
        columns: Columns of the files.

    Returns:
        For each file, the value of each partition column; None for a missing value.

    Raises:
        DataError: The files have different partition columns, one path has two values of a column, or a value is not
            UTF-8.
    """
    table, found = table_of(root), dict[Path, dict[str, str | None]]()
    for folder in dict.fromkeys(file.parent for file in files):
        found[folder] = _values(folder, folder.absolute().relative_to(table).parts, set(columns))
    first, names = next(iter(found.items()))
    for folder, values in found.items():
        if values.keys() != names.keys():
            what = f"the folders have other partition columns than {first}"
            details = [
                f"{place}: {', '.join(map(repr, had)) or 'none'}" for place, had in ((first, names), (folder, values))
            ]
            raise DataError(what, where=str(folder), details=details, fix="give each table a folder of its own")
    return tuple(found[file.parent] for file in files)


def table_of(root: Path) -> Path:
    """Return the first folder that is no partition: a folder itself, or the one above the partitions it lies in.

    Args:
        root: A folder, which may be relative.
    """
    here = root.absolute()
    while _FOLDER.fullmatch(here.name):
        here = here.parent
    return here


def _values(folder: Path, parts: Sequence[str], columns: set[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in parts:
        if not (match := _FOLDER.fullmatch(part)):
            continue
        try:
            name, value = (unquote(text, errors="strict") for text in match.groups())
        except UnicodeDecodeError as error:
            what = f"the name of the partition {part!r} is not UTF-8"
            raise DataError(what, where=str(folder), fix="rename the folder") from error
        if name in columns:
            continue
        if name in found:
            what, fix = f"the path has two values of the partition column {name!r}", "rename one of the folders"
            raise DataError(what, where=str(folder), fix=fix)
        found[name] = None if match[2] == _MISSING else value
    return found


def with_partitions(table: pa.Table, schema: pa.Schema, values: Mapping[str, str | None], rows: int) -> pa.Table:
    """Return the rows of a file with the columns of a schema, of which some stand in the names of folders.

    Args:
        table: The other columns, which may be none.
        schema: The columns.
        values: Values of partition columns.
        rows: Number of rows.
    """
    if table.schema.names == schema.names:
        return table
    columns = []
    for field in schema:
        if field.name in values:
            value = pa.scalar(values[field.name], pa.string()).cast(field.type)
            columns.append(pa.repeat(value, rows))
        else:
            columns.append(table.column(field.name))
    return pa.table(columns, schema=schema)
