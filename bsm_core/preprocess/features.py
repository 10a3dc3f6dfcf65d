"""Tabular features: from table columns to one float vector for each row, a column at a time.

A missing number is replaced by its imputation value; a category is replaced by its value in a risk table. The feature
of a value does not depend on the format: text in a CSV cell and a typed value in Parquet are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.artifact.feature_tables import MISSING_NUMBER, risk_of_missing
from bsm_core.preprocess.cell_reasons import NUMBER, text_of, why_no_category, why_no_number
from bsm_core.preprocess.findings import (
    COMMA,
    DECIMAL_COMMA,
    DECIMAL_COMMA_AND_GROUPS,
    FEATURE,
    MAGNITUDE,
    POINTS,
    CategoryCounts,
    Findings,
    Issue,
)
from bsm_core.preprocess.magnitudes import Magnitudes
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
_COMMAS = frozenset({COMMA, DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS})

_NUMBER_TYPES: tuple[Callable[[Any], bool], ...] = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
_UNREADABLE = pa.scalar(b"\xff", pa.large_binary())


@dataclass(frozen=True)
class FeatureColumn:
    """Values of one feature.

    Attributes:
        values: float32 ``[rows]``, all finite.
        bad: Rows whose cells were unparsable or infinite, in order, each with the reason. Missing cells are not bad.
        missing: Number of missing cells.
        unseen: Number of categories that the risk table does not have.
        filled: Whether each value stands for a missing or bad number, bool ``[rows]``; None for categories.
        points: Number of cells with a decimal point, if other cells are bad because of a comma; else 0.
        categories: How often each category occurs; None for numbers.
    """

    values: npt.NDArray[np.float32]
    bad: dict[int, str]
    missing: int
    unseen: int = 0
    filled: npt.NDArray[np.bool_] | None = None
    points: int = 0
    categories: CategoryCounts | None = None


class _Lookup(IntEnum):
    """How a risk table finds the risk of a cell."""

    KNOWN, MISSING, UNSEEN, BAD = range(4)


class Imputer:
    """Processor that replaces missing, unparsable and infinite numbers of a column by one value.

    The inference contract calls it ``NumericalVariableImputationProcessor``.

    Args:
        value: The imputation value.
    """

    def __init__(self, value: float = MISSING_NUMBER) -> None:
        self.value = value

    def transform(self, column: Column, dialect: Dialect | None = None) -> FeatureColumn:
        """Return a column as numbers. ``true`` is 1 and ``false`` is 0.

        A number outside the range of float32 counts as infinite. Dates and nested values are unparsable.

        Args:
            column: The column.
            dialect: Spelling of numbers in text. None: the plain one.
        """
        if (parts := _parts(column)) is not None:
            return _joined(len(column), [(rows, self.transform(part, dialect)) for rows, part in parts])
        with np.errstate(over="ignore"):
            values = numbers_of(column, dialect).astype(np.float32)
        bad, missing = np.isinf(values), np.isnan(values)
        filled = bad | missing
        values[filled] = self.value
        reasons = _reasons(column, bad, partial(why_no_number, dialect=dialect))
        points = 0 if _COMMAS.isdisjoint(reasons.values()) else _points(column)
        return FeatureColumn(values, reasons, int(missing.sum()), filled=filled, points=points)


class RiskTable:
    """Processor that replaces each category of a column by the risk that training measured for it.

    The inference contract calls it ``RiskTableMappingProcessor``.

    Args:
        bins: Risk by category. A key that is not a string stands for its text, and None for ``"nan"``.
        default_bin: Risk of all other categories.
    """

    def __init__(self, bins: Mapping[Any, float], default_bin: float) -> None:
        self.bins = {"nan" if key is None else str(key): float(risk) for key, risk in bins.items()}
        self.default_bin = float(default_bin)
        self._missing = risk_of_missing(self.bins, self.default_bin)
        self._by_value: dict[Decimal | str, str] = {}
        for text in self.bins:
            self._by_value.setdefault(category_key(text), text)

    def transform(self, column: Column, missing: float | None = None) -> FeatureColumn:
        """Return the risk of each cell of a column.

        The risk of a cell is the bin of its text; without such a bin, the bin with the same number; else
        ``default_bin``.

        Args:
            column: Cells of any type. NaN, null and an empty cell are missing. The text of a date is ``2024-01-31``.
            missing: Imputation value of the feature, which replaces missing cells before the lookup. None: the risk of
                a missing cell is the bin ``"nan"``, else the bin ``""``, else ``default_bin``.

        Returns:
            The risks. Cells without a text are bad: bytes that are not UTF-8, times and nested values.
        """
        if (parts := _parts(column)) is not None:
            return _joined(len(column), [(rows, self.transform(part, missing)) for rows, part in parts])
        encoded = _cells(column).dictionary_encode()
        of_missing = self._missing if missing is None else self._find(str(missing), self._missing)[0]
        found = [self._find(text_of(v), of_missing) for v in encoded.dictionary.to_numpy(zero_copy_only=False)]
        codes = encoded.indices.fill_null(len(found)).to_numpy()
        risks, lookups, names = zip(*found, (of_missing, _Lookup.MISSING, ""), strict=True)
        values, lookup = np.array(risks, np.float32)[codes], np.array(lookups, np.int8)
        occurs = np.bincount(codes, minlength=len(lookup))
        count = np.bincount(lookup, weights=occurs, minlength=len(_Lookup)).astype(int).tolist()
        bad = _reasons(column, lookup[codes] == _Lookup.BAD, why_no_category) if count[_Lookup.BAD] else {}
        counted = zip(names, occurs.tolist(), lookups, strict=True)
        categories = CategoryCounts.of((n, times, how == _Lookup.KNOWN) for n, times, how in counted if n)
        return FeatureColumn(values, bad, count[_Lookup.MISSING], count[_Lookup.UNSEEN], categories=categories)

    def _find(self, text: str | None, of_missing: float) -> tuple[float, _Lookup, str]:
        """Return the risk of a text (None: the cell has no text), how it was found, and the category.

        The category has the table's spelling if the table has it. ``of_missing`` is the risk of a missing cell.
        """
        if text is None:
            return self.default_bin, _Lookup.BAD, ""
        if text in ("", "nan"):
            return of_missing, _Lookup.MISSING, ""
        if text in self.bins:
            return self.bins[text], _Lookup.KNOWN, text
        value = category_key(text)
        if value == "nan":
            return of_missing, _Lookup.MISSING, ""
        name = self._by_value.get(value)
        return (self.default_bin, _Lookup.UNSEEN, text) if name is None else (self.bins[name], _Lookup.KNOWN, name)


class Features:
    """The features of an artifact, in the order of its ``tab_field_list``.

    Args:
        names: Names of the features, which are also the names of their columns. A name may occur twice.
        imputers: Imputer by feature. The imputation value of other features is :data:`MISSING_NUMBER`.
        risk_tables: Risk table by feature. If a feature has an imputer too, missing cells are imputed before the
            lookup.
        largest: Largest absolute value of a number in training, by feature; see :class:`Magnitudes`.

    Both mappings are read at each call of :meth:`transform`.

    Attributes:
        names: Names of the features, in order.
        columns: Names of the columns that the features need, each once.
    """

    def __init__(
        self,
        names: Sequence[str],
        imputers: Mapping[str, Imputer],
        risk_tables: Mapping[str, RiskTable],
        largest: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.names = tuple(names)
        self.columns = tuple(dict.fromkeys(names))
        self._imputers, self._risk_tables, self._magnitudes = imputers, risk_tables, Magnitudes(largest)

    def transform(
        self, columns: Mapping[str, Column], rows: int, dialect: Dialect | None = None
    ) -> tuple[npt.NDArray[np.float32], Findings]:
        """Return the feature matrix of some rows.

        Args:
            columns: Columns by name, at least those in :attr:`columns`, with ``rows`` cells each.
            rows: Number of rows.
            dialect: Spelling of numbers in text. None: the plain one.

        Returns:
            float32 ``[rows, features]``, C-contiguous, all finite; and the findings, whose issues are in the order of
            the columns.
        """
        made = {name: self._column(name, columns[name], dialect) for name in self.columns}
        values = np.empty((rows, len(self.names)), np.float32)
        if self.names:
            np.stack([made[name].values for name in self.names], axis=1, out=values)
        issues: list[Issue] = []
        examples: list[Issue] = []
        seen: dict[str, int] = {}
        categories = {name: column.categories for name, column in made.items() if column.categories}
        for name, column in made.items():
            cells = zip(column.bad.items(), values_at(columns[name], list(column.bad)), strict=True)
            issues += [Issue.of(row, name, FEATURE, reason, value) for (row, reason), value in cells]
            found = {
                f"missing:{name}": column.missing,
                f"unseen:{name}": column.unseen,
                f"{POINTS}:{name}": column.points,
            }
            if column.filled is not None and len(far := self._magnitudes.unseen(name, column.values, column.filled)):
                found[f"{MAGNITUDE}:{name}"] = len(far)
                examples.append(self._magnitudes.example(name, int(far[0]), column.values))
            seen |= {key: count for key, count in found.items() if count}
        return values, Findings(issues, seen, examples=tuple(examples), categories=categories)

    def _column(self, name: str, column: Column, dialect: Dialect | None) -> FeatureColumn:
        imputer = self._imputers.get(name)
        if table := self._risk_tables.get(name):
            return table.transform(column, missing=imputer.value if imputer else None)
        return (imputer or Imputer()).transform(column, dialect)


def category_texts(column: Column) -> list[str]:
    """Return the text by which a risk table looks up each cell: ``"nan"`` if the cell is missing or has no text."""
    if (parts := _parts(column)) is not None:
        found = np.empty(len(column), object)
        for rows, part in parts:
            found[rows] = category_texts(part)
        return [*found]
    encoded = _cells(column).dictionary_encode()
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


def _parts(column: Column) -> list[tuple[npt.NDArray[np.int64], Any]] | None:
    """Return the values of a union type by type, with their rows; None for another column.

    The files of a table may have different types for a column. Each value counts as in a table of its file alone.
    """
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return None
    column = plain_values(column)
    return [*parts_of_union(column)] if pa.types.is_union(column.type) else None


def _joined(count: int, parts: Sequence[tuple[npt.NDArray[np.int64], FeatureColumn]]) -> FeatureColumn:
    """Return ``count`` rows as one column, from parts of it with their rows."""
    values, bad, filled = np.empty(count, np.float32), dict[int, str](), np.ones(count, bool)
    for rows, part in parts:
        values[rows], filled[rows] = part.values, True if part.filled is None else part.filled
        bad |= {int(rows[row]): reason for row, reason in part.bad.items()}
    names = "missing", "unseen", "points"
    missing, unseen, points = (sum(getattr(part, name) for _, part in parts) for name in names)
    categories = CategoryCounts.sum(part.categories for _, part in parts)
    return FeatureColumn(values, dict(sorted(bad.items())), missing, unseen, filled, points, categories)


def values_at(column: Column, rows: Sequence[int]) -> list[Any]:
    """Return the cells of some rows as Python values: bytes from CSV, and text for values that Python cannot hold."""
    cells = [column[row] for row in rows]
    return cell_values(cells) if isinstance(column, pa.Array | pa.ChunkedArray) else cells


def _reasons(column: Column, bad: npt.NDArray[np.bool_], why: Callable[[Any], str]) -> dict[int, str]:
    """Return the reason of each bad cell, by row."""
    rows = np.flatnonzero(bad).tolist()
    return dict(zip(rows, map(why, values_at(column, rows)), strict=True))


def _cells(column: Column) -> Any:
    """Return a column as one Arrow array of booleans, integers, floats or bytes.

    A decimal becomes its text, which is exact, and so does a date. A date without a text, and values of other types,
    become bytes that are not UTF-8, so that they count as unparsable. A union has :func:`_parts`.
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


def numbers_of(column: Column, dialect: Dialect | None = None) -> npt.NDArray[np.float64]:
    """Return a column as numbers: NaN for a missing cell, infinity for a cell that is unparsable or infinite."""
    if (parts := _parts(column)) is not None:
        values = np.empty(len(column))
        for rows, part in parts:
            values[rows] = numbers_of(part, dialect)
        return values
    cells = _cells(spelled_plainly(column, dialect or Dialect()))
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


def _points(column: Column) -> int:
    """Return the number of cells of text whose point is a decimal point; that of ``1.234`` may be between groups."""
    cells = _cells(column)
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
    encoded = _cells(column).dictionary_encode()
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
