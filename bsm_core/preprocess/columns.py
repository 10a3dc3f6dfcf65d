"""Columns of a table in memory: selected by name, and read as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bsm_core.errors import UsageError
from bsm_core.preprocess.features import Column
from bsm_core.preprocess.findings import TextFailure
from bsm_core.tables.read import require_columns

if TYPE_CHECKING:
    import pandas as pd

NOT_TEXT = "reading"
"""Step name of a :class:`TextFailure` whose value is not text."""


def table_columns(data: pd.DataFrame | pa.Table, wanted: Mapping[str, str]) -> tuple[dict[str, Column], Any]:
    """Return some columns of a frame or table, by name, and the frame's index (None for a table).

    Args:
        data: The frame or table.
        wanted: Names of the columns, each with the config key that names it.

    Raises:
        UsageError: ``data`` is neither a pandas DataFrame nor a pyarrow Table.
        MissingColumnsError: Columns are missing; the error lists all of them.
        DataError: A wanted column occurs more than once.
    """
    import pandas as pd

    if not isinstance(data, pa.Table | pd.DataFrame):
        raise UsageError(f"{type(data).__name__} is not a table", fix="pass a pandas DataFrame or a pyarrow Table")
    if isinstance(data, pa.Table):
        require_columns(data.column_names, wanted)
        return {name: data.column(name) for name in wanted}, None
    require_columns(list(data.columns), wanted)
    return {name: _from_pandas(data[name]) for name in wanted}, data.index


def _from_pandas(series: Any) -> Column:
    """Return an Arrow array; for a column of mixed types, a list of Python objects."""
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # UnicodeEncodeError: half of a surrogate pair
        return list(series)


def text_values(column: Column) -> tuple[list[str], list[TextFailure]]:
    """Return the text of each row, and a failure for each value that is not text.

    The text of a missing value is empty, and so is the text of a value that is not text.
    """
    if isinstance(column, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = _decoded(column)
        column = column.to_pylist()
    read = [(value, None) if isinstance(value, str) else _as_text(value) for value in column]
    failures = [TextFailure(row, NOT_TEXT, reason) for row, (_, reason) in enumerate(read) if reason]
    return [text for text, _ in read], failures


def _decoded(column: Any) -> Any:
    """Return a column of strings if all its bytes are UTF-8, else the column unchanged."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return column


def _as_text(value: Any) -> tuple[str, str | None]:
    """Return the text of a value that is not ``str``, and the reason if it is not text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "", None
    if isinstance(value, bytes):
        try:
            return value.decode(), None
        except UnicodeDecodeError as error:
            return "", f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
    return "", f"a value of type {type(value).__name__} is not text"
