"""The columns of a table: that they are there, in every file, and one type for each column of several files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from bsm_core.errors import DataError, MissingColumnsError, nearest
from bsm_core.tables.formats.dialect import NO_HEADER
from bsm_core.tables.formats.plain_values import holds_text, plain_values

_NOT_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def require_columns(
    names: Sequence[Any],
    wanted: Mapping[str, str],
    *,
    where: str | None = None,
    hints: Sequence[str] = (),
    settings: Sequence[Mapping[str, str]] = (),
) -> None:
    """Check that a table has some columns, each once.

    Args:
        names: Names of the table's columns. Names that are not ``str`` are never wanted.
        wanted: Names of the columns to check, each with the config key or setting that names it.
        where: File of the table, for errors.
        hints: Further lines for the error about missing columns.
        settings: Settings that may solve it.

    Raises:
        MissingColumnsError: Columns are missing; the error lists all of them.
        DataError: A wanted column occurs more than once.
    """
    count = Counter(names)
    if missing := [name for name in wanted if not count[name]]:
        near = {name: nearest(name, [other for other in names if isinstance(other, str)]) for name in missing}
        meant = {name: f"; did you mean {other!r}?" if other else "" for name, other in near.items()}
        lines = [f"{name!r}, wanted by {wanted[name]}{meant[name]}" for name in missing]
        raise MissingColumnsError(
            f"{len(missing)} column(s) are missing from the data",
            where=where,
            details=[*lines, f"columns found: {', '.join(map(repr, names))}", *hints],
            fix="add the columns to the data, or correct the names",
            settings=settings,
        )
    if repeated := [name for name in wanted if count[name] > 1]:
        raise DataError(
            f"columns that occur more than once: {', '.join(map(repr, repeated))}",
            where=where,
            fix="rename or remove the other columns of the same name",
        )


def require_same_columns(first: Path, expected: pa.Schema, file: Path, schema: pa.Schema) -> None:
    """Check that a file has the columns of the first file, in any order."""
    one, other = Counter(expected.names), Counter(schema.names)
    if one != other:
        changes = {"lacks": one - other, "adds": other - one}
        fix, settings = "give all files of the table the same columns", list[dict[str, str]]()
        if pa.types.is_binary(schema.types[0]) and (found := _other_delimiters({first: expected, file: schema})):
            fix = f"write all files with one delimiter: the columns of {found}"
        elif 2 * (one & other).total() < len(one) and pa.types.is_binary(schema.types[0]):  # of text files
            settings = [NO_HEADER]
        raise DataError(
            f"the columns differ from those of {first}",
            where=str(file),
            details=[f"{what}: {', '.join(map(repr, names))}" for what, names in changes.items() if names],
            fix=fix,
            settings=settings,
        )


def delimiter_in(names: Sequence[str]) -> str | None:
    """Return a delimiter, as it is named in errors, if the single column of a header looks like several columns."""
    marks = {";": "';'", "\t": "a tab", "|": "'|'", ",": "','"}
    return next((name for mark, name in marks.items() if len(names) == 1 and mark in names[0]), None)


def _other_delimiters(schemas: Mapping[Path, pa.Schema]) -> str:
    """Return which text files seem to have another delimiter than the one with which they are read."""
    found = {file: delimiter_in(schema.names) for file, schema in schemas.items()}
    return " and ".join(f"{file} seem to be separated by {mark}" for file, mark in found.items() if mark)


def _type_error(what: str, file: Path) -> DataError:
    return DataError(what, where=str(file), fix="write all files with the same type for this column")


def merged_type(column: str, kinds: Sequence[tuple[Path, Mapping[str, pa.DataType]]], *, convert: bool) -> pa.DataType:
    """Return a type for a column, from a file of each schema and the types in it.

    With ``convert``, a value is what its own file says: if no type keeps the text of the values of all files, the type
    is a union. Without, such types are an error.
    """
    found = [types[column] for _, types in kinds]
    merged = found[0]
    for (file, _), kind in zip(kinds, found, strict=True):
        if isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
            _require_readable(column, kind, file)
        try:
            merged = merged if kind == merged else _merge(merged, kind, convert=convert)
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            if not convert:
                raise _type_error(f"column {column!r} has type {kind}, but {merged} in earlier files", file) from error
    return _union(found) if convert and not all(_keeps_text(kind, merged) for kind in set(found)) else merged


def _require_readable(column: str, kind: pa.DataType, file: Path) -> None:
    """Check that Arrow can read a type: it aborts the process for categories of an extension type."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
        if pa.types.is_dictionary(kind):
            what = f"column {column!r} has categories (type {kind}) of an extension type, which cannot be read"
            raise DataError(what, where=str(file), fix="write the column with its plain values")
    for number in range(kind.num_fields):
        _require_readable(column, kind.field(number).type, file)


def _merge(one: pa.DataType, other: pa.DataType, *, convert: bool) -> pa.DataType:
    """Return a type for the values of both types. Only with ``convert``, a value may become one of another type."""
    kinds, promote = [one, other], "default"
    values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    if all(map(pa.types.is_dictionary, kinds)) and values[0] == values[1]:
        promote = "permissive"  # the types differ only in the width of their indices
    elif convert and pa.null() not in kinds:  # Arrow merges views with nothing
        kinds, promote = [_NOT_VIEWS.get(kind, kind) for kind in values], "permissive"
    schemas = [pa.schema([("column", kind)]) for kind in kinds]
    return pa.unify_schemas(schemas, promote_options=promote).field(0).type


def _keeps_text(kind: pa.DataType, other: pa.DataType) -> bool:
    """Return whether a value has the same text in both types. A null has none."""
    kind, other = (t.value_type if pt.is_dictionary(t) else t for t in (kind, other))
    if kind == other or pt.is_null(kind):
        return True
    if pt.is_integer(kind) and pt.is_integer(other):
        signed, other_signed = pt.is_signed_integer(kind), pt.is_signed_integer(other)
        return bool(signed == other_signed or (other_signed and kind.bit_width < other.bit_width))
    if pt.is_decimal(kind) and pt.is_decimal(other):
        return bool(kind.scale == other.scale)
    return holds_text(kind) and holds_text(other)


def _union(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Return a union in which each of the types has a member that keeps its text. Its values have plain types."""
    members: list[pa.DataType] = []
    for kind in (_plain_type(kind) for kind in kinds if not pt.is_null(kind)):
        for number, member in enumerate(members):
            with suppress(pa.ArrowTypeError, pa.ArrowInvalid):
                merged = _merge(member, kind, convert=True)
                if _keeps_text(kind, merged) and _keeps_text(member, merged):
                    members[number] = merged
                    break
        else:
            members.append(kind)
    return pa.dense_union([pa.field(str(number), member) for number, member in enumerate(members)])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return plain_values(pa.nulls(0, kind)).type


def _as_union(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column as one of a union, whose first member that keeps its text has all values."""
    column = plain_values(column)
    members = [kind.field(number) for number in range(kind.num_fields)]
    number = next(number for number, member in enumerate(members) if _keeps_text(column.type, member.type))
    values = [pa.nulls(0, member.type) for member in members]
    values[number] = column.cast(members[number].type)
    codes, places = np.full(len(column), number, np.int8), np.arange(len(column), dtype=np.int32)
    return pa.UnionArray.from_dense(pa.array(codes), pa.array(places), values, [member.name for member in members])


def conform(batch: pa.RecordBatch, schema: pa.Schema, file: Path) -> pa.Table:
    """Return rows of a file as a table whose columns have these types."""
    columns = []
    for wanted, column in zip(schema, batch.columns, strict=True):
        if column.type != wanted.type:
            try:
                column = _as_union(column, wanted.type) if pt.is_union(wanted.type) else column.cast(wanted.type)
            except pa.ArrowInvalid as error:
                what = f"column {wanted.name!r} does not fit {wanted.type}, its type in other files: {error}"
                raise _type_error(what, file) from error
        columns.append(column)
    return pa.table(columns, schema=schema)
