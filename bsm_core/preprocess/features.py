"""Tabular features: table columns become one float vector a row, a column at a time.

A number is imputed where it is missing; a category is looked up in its risk table. A value gives the same feature
whether it comes as the text of a CSV cell or typed from Parquet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.artifact.feature_tables import MISSING_NUMBER, risk_of_missing

Column: TypeAlias = pa.Array | pa.ChunkedArray | Sequence[object]
"""A column of a table: raw bytes from CSV, any Arrow type from Parquet, Python objects from a mixed pandas column."""

_MISSING_WORDS = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none", "nat"})
_BOOLEANS = {"true": 1.0, "false": 0.0}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")  # in lower case
# Plain numbers, which Arrow parses at once: never so large that a double overflows, nothing that is no number.
_PLAIN_NUMBER = r"^-?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,2})?$"

_TEXT_TYPES: tuple[Callable[[Any], bool], ...] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
    pa.types.is_null,
)
_NUMBER_TYPES: tuple[Callable[[Any], bool], ...] = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
_UNREADABLE = pa.scalar(b"\xff", pa.large_binary())


@dataclass(frozen=True)
class FeatureColumn:
    """One feature of some rows.

    Attributes:
        values: float32 ``[rows]``, all finite.
        bad: Number of cells that were unparsable or infinite; missing ones are not bad.
    """

    values: npt.NDArray[np.float32]
    bad: int


@dataclass(frozen=True)
class FeatureMatrix:
    """All features of some rows.

    Attributes:
        values: float32 ``[rows, features]``, C-contiguous, all finite.
        bad: Number of unparsable or infinite cells by column; only columns that have some.
    """

    values: npt.NDArray[np.float32]
    bad: dict[str, int]


class Imputer:
    """Numbers, with one value in place of those that are missing, unparsable or infinite.

    ``NumericalVariableImputationProcessor`` in the inference contract.

    Args:
        value: The imputation value.
    """

    def __init__(self, value: float = MISSING_NUMBER) -> None:
        self.value = value

    def transform(self, column: Column) -> FeatureColumn:
        """Read a column as numbers; ``true`` is 1 and ``false`` is 0.

        A number that float32 cannot hold is an infinity. Dates and nested values are unparsable.
        """
        with np.errstate(over="ignore"):
            values = _numbers(column).astype(np.float32)
        bad = np.isinf(values)
        values[bad | np.isnan(values)] = self.value
        return FeatureColumn(values, int(bad.sum()))


class RiskTable:
    """Categories, each mapped to the risk that training found for it.

    ``RiskTableMappingProcessor`` in the inference contract.

    Args:
        bins: Risk by category. Keys that are not text count as their text.
        default_bin: Risk of every other category.
    """

    def __init__(self, bins: Mapping[Any, float], default_bin: float) -> None:
        self.bins = {"nan" if key is None else str(key): float(risk) for key, risk in bins.items()}
        self.default_bin = float(default_bin)
        self._missing = risk_of_missing(self.bins, self.default_bin)
        self._by_value: dict[Decimal | str, float] = {}
        for text, risk in self.bins.items():
            if (value := _canonical(text)) is not None:
                self._by_value.setdefault(value, risk)

    def transform(self, column: Column, missing: float | None = None) -> FeatureColumn:
        """Look a column up: each cell's text, else its canonical number, else ``default_bin``.

        Args:
            column: Cells of any type. NaN, null and an empty cell are missing; a date's text is ``2024-01-31``.
            missing: The feature's imputation value, where it has one: a missing cell is then this number. Without
                one it is the bin ``"nan"`` or ``""``, whichever the table has, else ``default_bin``.

        Returns:
            Risks. Bad cells are those without a text: bytes that do not decode, times and nested values.
        """
        encoded = _cells(column).dictionary_encode()
        risk_of_missing = self._missing if missing is None else self._risk(str(missing), self._missing)
        risks = [self._risk(_text(v), risk_of_missing) for v in encoded.dictionary.to_numpy(zero_copy_only=False)]
        codes = encoded.indices.fill_null(len(risks)).to_numpy()
        values = np.array([*risks, risk_of_missing], np.float32)[codes]
        bad = np.isnan(values)
        values[bad] = self.default_bin
        return FeatureColumn(values, int(bad.sum()))

    def _risk(self, text: str | None, risk_of_missing: float) -> float:
        """The risk of one distinct text; NaN where there is no text."""
        if text is None:
            return np.nan
        if text in ("", "nan"):
            return risk_of_missing
        if text in self.bins:
            return self.bins[text]
        value = _canonical(text)
        if value == "nan":
            return risk_of_missing
        return self.default_bin if value is None else self._by_value.get(value, self.default_bin)


class Features:
    """The feature vector of an artifact: what its ``tab_field_list`` names, in that order.

    Args:
        names: ``tab_field_list``; a name may stand in it twice.
        imputers: By feature; a feature without one is imputed with :data:`MISSING_NUMBER`.
        risk_tables: By feature. One that has an imputer too is imputed first, then looked up.

    Attributes:
        names: The features in order.
        columns: The distinct columns they need.
    """

    def __init__(
        self, names: Sequence[str], imputers: Mapping[str, Imputer], risk_tables: Mapping[str, RiskTable]
    ) -> None:
        self.names = tuple(names)
        self.columns = tuple(dict.fromkeys(names))
        self._transforms: dict[str, Callable[[Column], FeatureColumn]] = {}
        for name in self.columns:
            imputer = imputers.get(name)
            if name in risk_tables:
                missing = None if imputer is None else imputer.value
                self._transforms[name] = partial(risk_tables[name].transform, missing=missing)
            else:
                self._transforms[name] = (imputer or Imputer()).transform

    def transform(self, columns: Mapping[str, Column], rows: int) -> FeatureMatrix:
        """Make the feature matrix of some rows.

        Args:
            columns: At least :attr:`columns`, each ``rows`` long.
            rows: Number of rows, needed where there are no features.
        """
        made = {name: transform(columns[name]) for name, transform in self._transforms.items()}
        values = np.empty((rows, len(self.names)), np.float32)
        if self.names:
            np.stack([made[name].values for name in self.names], axis=1, out=values)
        return FeatureMatrix(values, {name: column.bad for name, column in made.items() if column.bad})


def category_texts(column: Column) -> list[str]:
    """The text that a risk table looks each cell up by; ``"nan"`` where it is missing or has none."""
    encoded = _cells(column).dictionary_encode()
    texts = [_text(value) or "nan" for value in encoded.dictionary.to_numpy(zero_copy_only=False)]
    return [*np.array([*texts, "nan"], dtype=object)[encoded.indices.fill_null(len(texts)).to_numpy()]]


def category_key(text: str) -> Decimal | str:
    """What all spellings of a category have in common: ``3``, ``3.0`` and ``3e0`` are one number."""
    key = _canonical(text)
    return text if key is None else key


def _cells(column: Column) -> Any:
    """A column as one Arrow array, of booleans, integers, floats or raw bytes; what is none of these is unreadable."""
    if not isinstance(column, pa.Array | pa.ChunkedArray):
        return _python_cells(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # chunks may differ in their dictionaries, so before combining
    if pa.types.is_decimal(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.large_string())  # as text, decimals are exact
    if any(is_type(column.type) for is_type in _TEXT_TYPES):
        column = column.cast(pa.large_binary())
    elif not any(is_type(column.type) for is_type in _NUMBER_TYPES):
        column = pc.if_else(column.is_valid(), _UNREADABLE, None)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _python_cells(column: Sequence[object]) -> Any:
    """Python objects as the bytes of their text, so that one mixed column has one type."""
    import pandas as pd  # slow to import, and only this needs it

    missing = pd.Series(list(column), dtype=object).isna().to_numpy()
    cells = [v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogatepass") for v in column]
    return pa.array(cells, pa.large_binary(), mask=missing)


def _numbers(column: Column) -> npt.NDArray[np.float64]:
    """A column as numbers: NaN where a cell is missing, infinity where it is unparsable."""
    cells = _cells(column)
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


def _number(cell: bytes) -> float:
    """One distinct cell that is not plainly a number."""
    text = _text(cell)
    if text is None:
        return np.inf
    word = text.strip().lower()
    if word in _MISSING_WORDS:
        return np.nan
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    return float(word) if _NUMBER.fullmatch(word) else np.inf


def _text(value: Any) -> str | None:
    """A cell's text, for numbers and booleans as pandas would write it to CSV; None where bytes do not decode."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _canonical(text: str) -> Decimal | str | None:
    """What all spellings of a number, of a boolean or of NaN have in common; None for other texts."""
    word = text.strip().lower()
    if word in _BOOLEANS or word == "nan":
        return word
    try:
        return Decimal(word) if _NUMBER.fullmatch(word) else None
    except InvalidOperation:  # an exponent of twenty digits
        return None
