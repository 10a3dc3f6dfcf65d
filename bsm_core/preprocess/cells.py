"""Cells of a column as numbers, or as the texts of categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.preprocess.cell_reasons import NUMBER, text_of
from bsm_core.tables.cell_values import cell_values, printed, value_text
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import holds_text, parts_of_union, plain_values

Column: TypeAlias = pa.Array | pa.ChunkedArray | Sequence[object]
"""Column of a table: bytes from CSV, any Arrow type from Parquet, Python objects from a mixed pandas column."""

_MISSING_WORDS = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none", "nat", r"\n"})
"""Text of missing numbers, in lower case. Hive, MySQL and PostgreSQL write a backslash and an N for null."""
_BOOLEANS = {"true": 1.0, "false": 0.0}
# The common spellings of numbers, which Arrow parses a column at a time. Their length is limited so that no match
# overflows float64.
_PLAIN_NUMBER = r"^-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,2})?$"
_WITH_POINT, _WITH_GROUPS = r"^[+-]?[0-9]*\.[0-9]+$", r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"
_NUMBER_TYPES: tuple[Callable[[Any], bool], ...] = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
_UNREADABLE = pa.scalar(b"\xff", pa.large_binary())


def numbers_of(column: Column, dialect: Dialect | None = None) -> npt.NDArray[np.float64]:
    """Return a column as numbers: NaN for a missing cell, infinity for a cell that is unparsable or infinite."""
    if (parts := parts_of(column)) is not None:
        values = np.empty(len(column))
        for rows, part in parts:
            values[rows] = numbers_of(part, dialect)
        return values
    cells = cells_of(spelled_plainly(column, dialect or Dialect()))
    if not pa.types.is_large_binary(cells.type):
        numbers: npt.NDArray[np.float64] = cells.to_numpy(zero_copy_only=False).astype(np.float64)
        return numbers
    is_plain = pc.match_substring_regex(cells, _PLAIN_NUMBER)
    plain = pc.if_else(is_plain, cells, None).cast(pa.large_string()).cast(pa.float64())
    numbers = plain.to_numpy(zero_copy_only=False).copy()
    is_other = pc.invert(is_plain).fill_null(False)
    other = cells.filter(is_other).dictionary_encode()
    parsed = np.array([_number(cell) for cell in other.dictionary.to_pylist()], np.float64)
    numbers[is_other.to_numpy(zero_copy_only=False)] = parsed[other.indices.to_numpy()]
    return numbers


def category_texts(column: Column) -> list[str]:
    """Return the text by which a risk table looks up each cell: ``"nan"`` if the cell is missing or has no text."""
    if (parts := parts_of(column)) is not None:
        found = np.empty(len(column), object)
        for rows, part in parts:
            found[rows] = category_texts(part)
        return [*found]
    encoded = cells_of(column).dictionary_encode()
    texts = [text_of(value) or "nan" for value in encoded.dictionary.to_numpy(zero_copy_only=False)]
    return [*np.array([*texts, "nan"], dtype=object)[encoded.indices.fill_null(len(texts)).to_numpy()]]


def category_key(text: str) -> Decimal | str:
    """Return a key that is equal for all spellings of a number, a boolean or NaN; other texts are keys themselves.

    The key of ``3``, ``3.0`` and ``3e0`` is the same.
    """
    word = text.strip().lower()
    if word in _BOOLEANS or word == "nan":
        return word
    try:
        return Decimal(word) if NUMBER.fullmatch(word) else text
    except InvalidOperation:  # the exponent has about twenty digits or more
        return text


def values_at(column: Column, rows: Sequence[int]) -> list[Any]:
    """Return the cells of some rows as Python values: bytes from CSV, and text for values that Python cannot hold."""
    cells = [column[row] for row in rows]
    return cell_values(cells) if isinstance(column, pa.Array | pa.ChunkedArray) else cells


def parts_of(column: Column) -> list[tuple[npt.NDArray[np.int64], Any]] | None:
    """Return the values of a union type by type, with their rows; None for another column.

    The files of a table may have different types for a column. Each value counts as in a table of its file alone.
    """
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return None
    column = plain_values(column)
    return [*parts_of_union(column)] if pa.types.is_union(column.type) else None


def cells_of(column: Column) -> Any:
    """Return a column as one Arrow array of booleans, integers, floats or bytes.

    A decimal becomes its text, which is exact, and so does a date. A date without a text, and values of other types,
    become bytes that are not UTF-8, so that they count as unparsable. A union has :func:`parts_of`.
    """
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return _python_cells(column)
    column = plain_values(column)  # before combine_chunks: dictionaries of chunks may differ
    if pa.types.is_decimal(column.type) or pa.types.is_date(column.type):
        column = pc.if_else(column.is_valid(), pc.coalesce(printed(column).cast(pa.large_binary()), _UNREADABLE), None)
    if holds_text(column.type):
        column = column.cast(pa.large_binary())
    elif not any(is_type(column.type) for is_type in _NUMBER_TYPES):
        column = pc.if_else(column.is_valid(), _UNREADABLE, None)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _python_cells(column: Sequence[object]) -> Any:
    """Return the text of Python objects as bytes, so that a column of mixed types has one type."""
    import pandas as pd  # here, because the import is slow and rarely needed

    missing = pd.Series(list(column), dtype=object).isna().to_numpy()
    cells = [v if isinstance(v, bytes) else value_text(v).encode("utf-8", "surrogatepass") for v in column]
    return pa.array(cells, pa.large_binary(), mask=missing)


def points_of(column: Column) -> int:
    """Return the number of cells of text whose point is a decimal point; that of ``1.234`` may be between groups."""
    cells = cells_of(column)
    if not pa.types.is_large_binary(cells.type):
        return 0
    with_point, groups = (
        pc.sum(pc.match_substring_regex(cells, pattern)).as_py() or 0 for pattern in (_WITH_POINT, _WITH_GROUPS)
    )
    return int(with_point - groups)


def spelled_plainly(column: Column, dialect: Dialect) -> Column:
    """Return a column whose numbers in text have their plain spelling. Text that is no number becomes ``"-"``."""
    if dialect.decimal is None and dialect.thousands is None:
        return column
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return [_plain(value, dialect) if isinstance(value, bytes | str) else value for value in column]
    column = plain_values(column)
    if not holds_text(column.type):
        return column
    encoded = cells_of(column).dictionary_encode()
    plain = [_plain(value, dialect) for value in encoded.dictionary.to_pylist()]
    return pa.array(plain, pa.large_binary()).take(encoded.indices)


def _plain(value: bytes | str, dialect: Dialect) -> bytes:
    text = text_of(value)
    plain = None if text is None else dialect.plain_number(text)
    return ("-" if plain is None else plain).encode("utf-8", "surrogatepass")


def _number(cell: bytes) -> float:
    """Return the number in a cell that :data:`_PLAIN_NUMBER` does not match."""
    text = text_of(cell)
    if text is None:
        return np.inf
    word = text.strip().lower()
    if word in _MISSING_WORDS:
        return np.nan
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    return float(word) if NUMBER.fullmatch(word) else np.inf
