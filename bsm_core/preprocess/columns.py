"""Columns of a table in memory: selected by name, and read as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from numbers import Number
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import UsageError
from bsm_core.preprocess.cells import Column, numbers_of
from bsm_core.preprocess.findings import TOO_LONG
from bsm_core.runtime.memory import DEFAULT_MAX_CELL_MB
from bsm_core.tables.cell_values import cell_values, printed, value_text
from bsm_core.tables.formats.column_types import require_columns
from bsm_core.tables.formats.plain_values import holds_text, is_wrapped, parts_of_union, plain_values

if TYPE_CHECKING:
    import pandas as pd

_PRINTED = (Number, np.generic, date, time, timedelta)
"""Types of values whose text is ``str(value)``. A boolean is a number, and a timestamp is a date."""
PANDAS_MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""Cells that ``pandas.read_csv`` reads as missing (its documentation of ``na_values``)."""
_NO_NUMBER = r"^\s*[tTfF]|^\s*[+-]?0[0-9]"
"""Cells that a feature reads as numbers, and that say something else: ``true``, ``007``."""
_MAY_BE_ID = r"^-?0[0-9]|^[0-9]+[eE][0-9]+$|^[0-9]{16,}$|^[^0-9.-]|\s$"
"""Cells of which a number would lose something: zeros, many digits, words such as ``NA``, white space, a plus."""
_INTEGER = r"^\s*[+-]?[0-9]{1,18}\s*$"
_PRINTED_TYPES = (
    *(pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    *(pa.types.is_date, pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration),
)


class ArrowStream(Protocol):
    """Table of a library that hands it over by Arrow's PyCapsule interface, such as a DataFrame of polars."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


TableLike: TypeAlias = "pd.DataFrame | ArrowStream | Mapping[str, Any] | Sequence[Mapping[str, Any]]"
"""Frame of pandas, pyarrow or polars, or any :class:`ArrowStream`; a dict of columns; or a list of dicts, the rows.

A value that a dict of a row does not have is missing.
"""


def table_columns(data: TableLike, wanted: Mapping[str, str]) -> tuple[dict[str, Column], pd.Index[Any]]:
    """Return some columns of a table, by name, and its index: that of a pandas DataFrame, or the numbers of the rows.

    Args:
        data: The table.
        wanted: Names of the columns, each with the config key that names it.

    Raises:
        UsageError: ``data`` is no table, its columns have different lengths, or Arrow cannot read it.
        MissingColumnsError: Columns are missing; the error lists all of them.
        DataError: A wanted column occurs more than once.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        require_columns(list(data.columns), wanted)
        return {name: _from_pandas(data[name]) for name in wanted}, data.index
    if isinstance(data, Mapping):
        require_columns(list(data), wanted)
        columns = {name: _from_values(name, data[name]) for name in wanted}
        lengths = {name: len(column) for name, column in columns.items()}
        if len({*lengths.values()}) > 1:
            details = [f"{name!r}: {length:,}" for name, length in lengths.items()]
            fix = "give each column one value for each row"
            raise UsageError("the columns have different numbers of values", details=details, fix=fix)
        return columns, pd.RangeIndex(max(lengths.values(), default=0))
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        if data:
            require_columns(list(dict.fromkeys(name for row in data for name in row)), wanted)
        return {name: _from_values(name, [row.get(name) for row in data]) for name in wanted}, pd.RangeIndex(len(data))
    table = _from_arrow(data)
    require_columns(table.column_names, wanted)
    return {name: table.column(name) for name in wanted}, pd.RangeIndex(len(table))


def _from_arrow(data: Any) -> pa.Table:
    """Return a table that another library hands over.

    Raises:
        UsageError: It does not hand over any, or one that Arrow cannot read.
    """
    name = type(data).__name__
    if not _gives_arrow(data):
        fix = "pass a frame of pandas, polars or pyarrow, a dict of columns or a list of dicts"
        if callable(getattr(data, "collect", None)):
            fix = f"call collect() of the {name} first, or {fix}"
        raise UsageError(f"{name} is not a table", fix=fix)
    try:
        return pa.table(data)
    except Exception as error:  # of many types: of Arrow, and of the library
        what = f"{name} cannot be read as an Arrow table: {type(error).__name__}: {error}"
        raise UsageError(what, fix="select the columns that the artifact needs, or convert them") from error


def _gives_arrow(data: object) -> bool:
    return hasattr(type(data), "__arrow_c_stream__") or hasattr(type(data), "__arrow_c_array__")


def _from_values(name: str, values: Any) -> Column:
    """Return the values of a column that was passed by itself: an Arrow array where that is possible.

    Raises:
        UsageError: They are not one value for each row.
    """
    import pandas as pd

    if isinstance(values, pd.Series):
        return _from_pandas(values)
    try:
        if _gives_arrow(values):
            return pa.chunked_array(values) if hasattr(type(values), "__arrow_c_stream__") else pa.array(values)
        one_each = isinstance(values, Sequence | np.ndarray | pd.Index | pd.api.extensions.ExtensionArray)
        if one_each and not isinstance(values, str | bytes):
            typed = isinstance(values, Sequence)
            return _from_pandas(pd.Series(list(values) if typed else values, dtype=object if typed else None))
    except Exception as error:
        what = f"the column {name!r} cannot be read: {type(error).__name__}: {error}"
        raise UsageError(what, fix="pass a list of values, one for each row") from error
    raise UsageError(f"the column {name!r} is a {type(values).__name__}", fix="pass a list of values, one for each row")


def _from_pandas(series: Any) -> Column:
    """Return an Arrow array; for a column of mixed types or of a type of pandas alone, Python objects."""
    try:
        array = pa.Array.from_pandas(series)
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        of_pandas = isinstance(kind, pa.BaseExtensionType)  # such as intervals and periods
        return list(series) if of_pandas else array
    except Exception:  # noqa: BLE001 - of many types: for mixed types, 10**20, intervals, half of a surrogate pair
        return list(series)


def as_pandas_reads(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return cells of CSV or TSV with a null for each cell that ``pandas.read_csv`` reads as missing.

    Of other formats, pandas takes nulls alone as missing.
    """
    missing = pc.is_in(column, value_set=pa.array(PANDAS_MISSING, pa.string()).cast(column.type))
    return pc.if_else(missing, pa.scalar(None, column.type), column)


def as_numbers(column: pa.ChunkedArray, *, may_be_id: bool) -> pa.ChunkedArray:
    """Return a column of text as int64 or float64 if all its cells are numbers or missing; otherwise, the column.

    Cells are numbers or missing if they are so for a feature, but for ``true``, ``false`` and leading zeros.

    Args:
        column: The cells, as strings.
        may_be_id: Whether the column also stays as it is if one of its cells looks like an id: ``+1``, ``1e5``, ``NA``,
            16 digits or more, white space around a number.
    """
    text = pc.match_substring_regex(column, _MAY_BE_ID if may_be_id else _NO_NUMBER)
    values = numbers_of(column)
    missing = np.isnan(values)
    if not len(column) or pc.any(text).as_py() or np.isinf(values).any():
        return column
    if missing.all() or not pc.all(pc.or_(pc.match_substring_regex(column, _INTEGER), pa.array(missing))).as_py():
        return pa.chunked_array([pa.array(values, from_pandas=True)])
    digits = pc.utf8_ltrim(pc.utf8_trim_whitespace(column), "+")
    return pc.if_else(pa.array(missing), None, digits).cast(pa.int64())


def text_values(column: Column, max_cell_mb: int = DEFAULT_MAX_CELL_MB) -> tuple[list[str], dict[int, str]]:
    """Return the text of each row, and the rows whose values are not text or too long, in order, each with the reason.

    The text of a missing value is empty, and so is the text of a value that is not text. A number, a boolean, a date or
    a time has the text that ``str`` gives for it in pandas. A text is cut at ``max_cell_mb`` million bytes.
    """
    if isinstance(column, pa.Array | pa.ChunkedArray):
        column = _python_values(column)
    bad: dict[int, str] = {}
    texts = [value if isinstance(value, str) else _as_text(value, row, bad) for row, value in enumerate(column)]
    most = max_cell_mb * 1_000_000
    for row in [row for row, text in enumerate(texts) if 4 * len(text) > most]:  # a character has at most four bytes
        encoded = texts[row].encode("utf-8", "surrogatepass")
        if len(encoded) > most:
            texts[row] = encoded[:most].decode("utf-8", "ignore")
            bad[row] = f"{TOO_LONG} {max_cell_mb} MB (--max-cell-mb)"
    return texts, dict(sorted(bad.items()))


class _NoText(NamedTuple):
    """Cell that has no text.

    Attributes:
        reason: Why.
    """

    reason: str


def _python_values(column: Any) -> list[Any]:
    """Return an Arrow column as Python values: strings as far as possible, None for a null."""
    if is_wrapped(column.type):
        column = plain_values(column)
    if holds_text(column.type):
        return _as_strings(column.cast(pa.large_binary())).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_union(column.type):
        values: list[Any] = [None] * len(column)
        for rows, part in parts_of_union(column):
            for row, value in zip(rows.tolist(), _python_values(part), strict=True):
                values[row] = value
        return values
    if pa.types.is_nested(column.type):
        none = _NoText(f"a value of type {str(column.type).partition('<')[0]} is not text")
        return [none if valid else None for valid in column.is_valid().to_pylist()]
    if not any(is_type(column.type) for is_type in _PRINTED_TYPES):
        return cell_values(column)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = printed(column)
    values = texts.to_pylist()
    if pa.types.is_temporal(column.type):
        none = _NoText("a date or time that is out of range")
        for row in np.flatnonzero(pc.and_(column.is_valid(), texts.is_null())):
            values[row] = none
    return values


def _as_strings(column: Any) -> Any:
    """Return a column of bytes as strings if all of them are UTF-8, else the column unchanged."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return column


def _as_text(value: Any, row: int, bad: dict[int, str]) -> str:
    """Return the text of a value that is not ``str``; add the row to ``bad`` if the value has none."""
    if value is None or (isinstance(value, _PRINTED) and value != value) or type(value).__name__ == "NAType":
        return ""  # NaN and pandas' NaT are not equal to themselves
    if isinstance(value, _NoText):
        bad[row] = value.reason
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            bad[row] = f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
            return ""
    if isinstance(value, _PRINTED):
        return value_text(value)
    bad[row] = f"a value of type {type(value).__name__} is not text"
    return ""
