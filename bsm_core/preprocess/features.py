"""Tabular features: from table columns to one float vector for each row, a column at a time.

A missing number is replaced by its imputation value; a category is replaced by its value in a risk table. Then the
values are scaled, if the artifact has a scaling. The feature of a value does not depend on the format: text in a CSV
cell and a typed value in Parquet are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.features.feature_scaling import FeatureScaling, Floats, NumberScaling, OneHot, Unscaled
from bsm_core.artifact.features.feature_tables import MISSING_NUMBER, risk_of_missing
from bsm_core.preprocess.cell_reasons import text_of, why_no_category, why_no_number
from bsm_core.preprocess.cells import Column, category_key, cells_of, numbers_of, parts_of, points_of, values_at
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
from bsm_core.tables.formats.dialect import Dialect

_UNSCALED = Unscaled()
_LARGEST = np.finfo(np.float32).max
_COMMAS = frozenset({COMMA, DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS})


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
        exact: The values before they were rounded, float64 ``[rows]``; None unless the processor has a scaling.
    """

    values: npt.NDArray[np.float32]
    bad: dict[int, str]
    missing: int
    unseen: int = 0
    filled: npt.NDArray[np.bool_] | None = None
    points: int = 0
    categories: CategoryCounts | None = None
    exact: Floats | None = None


class FeatureRows(NamedTuple):
    """Features of some rows.

    Attributes:
        inputs: Inputs of the model, float32 ``[rows, inputs]``, C-contiguous, all finite.
        findings: Findings, whose issues are in the order of the columns.
        unscaled: Values before scaling, in the units of the table, float32 ``[rows, features]``; None if no feature is
            scaled, so that ``inputs`` has these values.
    """

    inputs: npt.NDArray[np.float32]
    findings: Findings
    unscaled: npt.NDArray[np.float32] | None


class _Lookup(IntEnum):
    """How a risk table finds the risk of a cell."""

    KNOWN, MISSING, UNSEEN, BAD = range(4)


class Imputer:
    """Processor that replaces missing, unparsable and infinite numbers of a column by one value.

    The inference contract calls it ``NumericalVariableImputationProcessor``.

    Args:
        value: The imputation value.
        scaling: Scaling of the numbers, for :class:`Features`. None: they are the inputs of the model as they are.
    """

    def __init__(self, value: float = MISSING_NUMBER, scaling: NumberScaling | None = None) -> None:
        self.value = value
        self.scaling = scaling

    def transform(self, column: Column, dialect: Dialect | None = None) -> FeatureColumn:
        """Return a column as numbers. ``true`` is 1 and ``false`` is 0.

        A number outside the range of float32 counts as infinite. Dates and nested values are unparsable.

        Args:
            column: The column.
            dialect: Spelling of numbers in text. None: the plain one.
        """
        if (parts := parts_of(column)) is not None:
            return _joined(len(column), [(rows, self.transform(part, dialect)) for rows, part in parts])
        exact = numbers_of(column, dialect)
        with np.errstate(over="ignore"):
            values = exact.astype(np.float32)
        bad, missing = np.isinf(values), np.isnan(values)
        filled = bad | missing
        values[filled] = self.value
        if self.scaling is not None:
            exact[filled] = self.value
        reasons = _reasons(column, bad, partial(why_no_number, dialect=dialect))
        points = 0 if _COMMAS.isdisjoint(reasons.values()) else points_of(column)
        kept = None if self.scaling is None else exact
        return FeatureColumn(values, reasons, int(missing.sum()), filled=filled, points=points, exact=kept)


class RiskTable:
    """Processor that replaces each category of a column by the risk that training measured for it.

    The inference contract calls it ``RiskTableMappingProcessor``.

    Args:
        bins: Risk by category. A key that is not a string stands for its text, and None for ``"nan"``.
        default_bin: Risk of all other categories.
        scaling: Scaling of the risks, for :class:`Features`. None: they are the inputs of the model as they are.
            :class:`OneHot`: the risk is the position of the category's input, and -1 for no input.
    """

    def __init__(
        self, bins: Mapping[Any, float], default_bin: float, scaling: NumberScaling | OneHot | None = None
    ) -> None:
        self.scaling = scaling
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
        if (parts := parts_of(column)) is not None:
            return _joined(len(column), [(rows, self.transform(part, missing)) for rows, part in parts])
        encoded = cells_of(column).dictionary_encode()
        of_missing = self._missing if missing is None else self._find(str(missing), self._missing)[0]
        found = [self._find(text_of(v), of_missing) for v in encoded.dictionary.to_numpy(zero_copy_only=False)]
        codes = encoded.indices.fill_null(len(found)).to_numpy()
        risks, lookups, names = zip(*found, (of_missing, _Lookup.MISSING, ""), strict=True)
        exact, lookup = np.array(risks, np.float64)[codes], np.array(lookups, np.int8)
        occurs = np.bincount(codes, minlength=len(lookup))
        count = np.bincount(lookup, weights=occurs, minlength=len(_Lookup)).astype(int).tolist()
        bad = _reasons(column, lookup[codes] == _Lookup.BAD, why_no_category) if count[_Lookup.BAD] else {}
        counted = zip(names, occurs.tolist(), lookups, strict=True)
        categories = CategoryCounts.of((n, times, how == _Lookup.KNOWN) for n, times, how in counted if n)
        return FeatureColumn(
            values=exact.astype(np.float32),
            bad=bad,
            missing=count[_Lookup.MISSING],
            unseen=count[_Lookup.UNSEEN],
            categories=categories,
            exact=None if self.scaling is None else exact,
        )

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

    _as_they_are = Imputer()

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

    def transform(self, columns: Mapping[str, Column], rows: int, dialect: Dialect | None = None) -> FeatureRows:
        """Return the features of some rows.

        Args:
            columns: Columns by name, at least those in :attr:`columns`, with ``rows`` cells each.
            rows: Number of rows.
            dialect: Spelling of numbers in text. None: the plain one.

        Returns:
            The inputs of the model, the findings, and the values before scaling.
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
        findings = Findings(issues, seen, examples=tuple(examples), categories=categories)
        if all(column.exact is None for column in made.values()):
            return FeatureRows(values, findings, None)
        return FeatureRows(self._inputs(made, rows), findings, values)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of the model, in order; those of :attr:`names` if no feature is scaled."""
        return tuple(name for feature in self.names for name in self._scaling(feature).input_names(feature))

    @property
    def input_counts(self) -> tuple[tuple[str, int], ...]:
        """Names of the features, in order, each with its number of inputs of the model."""
        return tuple((name, self._scaling(name).inputs) for name in self.names)

    def _processor(self, name: str) -> Imputer | RiskTable:
        return self._risk_tables.get(name) or self._imputers.get(name) or self._as_they_are

    def _scaling(self, name: str) -> NumberScaling | OneHot:
        return self._processor(name).scaling or _UNSCALED

    def _column(self, name: str, column: Column, dialect: Dialect | None) -> FeatureColumn:
        processor = self._processor(name)
        if isinstance(processor, RiskTable):
            imputer = self._imputers.get(name)
            return processor.transform(column, missing=imputer.value if imputer else None)
        return processor.transform(column, dialect)

    def _inputs(self, made: Mapping[str, FeatureColumn], rows: int) -> npt.NDArray[np.float32]:
        """Return the inputs of the model, float32 ``[rows, inputs]``."""
        scalings = [self._scaling(name) for name in self.names]
        linear = [scaling.center_and_scale for scaling in scalings]
        with np.errstate(over="ignore"):
            # Most models have such features alone. Fewer calls of NumPy make up a tenth of the time of a run.
            if all(parts is not None for parts in linear) and all(scaling.inputs == 1 for scaling in scalings):
                centers, scales = np.array(linear).T
                exact = np.stack([column.exact for column in (made[n] for n in self.names) if column.exact is not None])
                exact -= centers[:, None]
                exact /= scales[:, None]
                matrix = exact.T.astype(np.float32, order="C")
            else:
                matrix, ends = np.empty((rows, sum(s.inputs for s in scalings)), np.float32), 0
                for name, scaling in zip(self.names, scalings, strict=True):
                    _fill(matrix[:, ends : ends + scaling.inputs], made[name], scaling)
                    ends += scaling.inputs
        return np.clip(matrix, -_LARGEST, _LARGEST, out=matrix)  # a quotient may be too large for float32


def _fill(inputs: npt.NDArray[np.float32], column: FeatureColumn, scaling: NumberScaling | OneHot) -> None:
    """Write the inputs of one feature, float32 ``[rows, inputs of the feature]``."""
    if isinstance(scaling, OneHot):
        inputs[:] = column.values[:, None] == np.arange(inputs.shape[1], dtype=np.float32)
        return
    inputs[:, 0] = column.values if column.exact is None else scaling.scaled(column.exact)
    if scaling.missing_indicator:
        inputs[:, 1] = column.filled


def _joined(count: int, parts: Sequence[tuple[npt.NDArray[np.int64], FeatureColumn]]) -> FeatureColumn:
    """Return ``count`` rows as one column, from parts of it with their rows."""
    values, bad, filled = np.empty(count, np.float32), dict[int, str](), np.ones(count, bool)
    exact = np.empty(count) if any(part.exact is not None for _, part in parts) else None
    for rows, part in parts:
        values[rows], filled[rows] = part.values, True if part.filled is None else part.filled
        if exact is not None:
            exact[rows] = part.exact
        bad |= {int(rows[row]): reason for row, reason in part.bad.items()}
    names = "missing", "unseen", "points"
    missing, unseen, points = (sum(getattr(part, name) for _, part in parts) for name in names)
    categories = CategoryCounts.sum(part.categories for _, part in parts)
    return FeatureColumn(values, dict(sorted(bad.items())), missing, unseen, filled, points, categories, exact)


def _reasons(column: Column, bad: npt.NDArray[np.bool_], why: Callable[[Any], str]) -> dict[int, str]:
    """Return the reason of each bad cell, by row."""
    rows = np.flatnonzero(bad).tolist()
    return dict(zip(rows, map(why, values_at(column, rows)), strict=True))


def processors(
    impute: Mapping[str, float], risk_tables: Mapping[str, Mapping[str, Any]], scaling: FeatureScaling
) -> tuple[dict[str, Imputer], dict[str, RiskTable]]:
    """Return the processors of an artifact by feature: of numbers, and of categories.

    Args:
        impute: Imputation value by feature.
        risk_tables: Risk table by feature, as ``{"bins": {category: risk}, "default_bin": risk}``.
        scaling: Scaling of the features.
    """
    categories = {name: found for name, found in scaling.features.items() if isinstance(found, OneHot)}
    numbers = {name: found for name, found in scaling.features.items() if not isinstance(found, OneHot)}
    values = {**{name: MISSING_NUMBER for name in numbers if name not in risk_tables}, **impute}
    tables = {name: RiskTable(t["bins"], t["default_bin"], numbers.get(name)) for name, t in risk_tables.items()}
    tables |= {name: RiskTable(found.bins, -1, found) for name, found in categories.items()}
    return {name: Imputer(value, numbers.get(name)) for name, value in values.items()}, tables
