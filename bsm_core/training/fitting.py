"""Imputation values, risk tables and class weights, fitted on the training rows alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from bsm_core.artifact.features.feature_tables import MISSING_NUMBER
from bsm_core.errors import DataError
from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.preprocess.features import FeatureColumn, Imputer
from bsm_core.preprocess.findings import FEATURE, advice, kind_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.features.feature_keys import FeatureKinds
from bsm_core.training.rows.data import Rows

log = logging.getLogger("bsm")


def fit_impute(columns: Mapping[str, Column], names: Iterable[str], dialect: Dialect | None = None) -> dict[str, float]:
    """Return the median of each numeric feature, without features that are missing in every row.

    Args:
        columns: Columns by name.
        names: Names of the features.
        dialect: Spelling of numbers in text. None: the plain one.

    Raises:
        DataError: A feature has values, and none of them is a number.
    """
    read = {name: Imputer(np.nan).transform(columns[name], dialect) for name in names}
    if texts := [name for name, column in read.items() if column.bad and np.isnan(column.values).all()]:
        fix = "add features that are categories to cat_field_list; remove columns that are no features"
        spelled = _advice(read, texts)
        raise DataError(
            f"features that have values, but no number: {', '.join(map(repr, texts))}",
            where="config.tab_field_list",
            details=spelled,
            fix=f"say how the numbers are spelled, or {fix}" if spelled else fix,
        )
    found = {name: column.values for name, column in read.items() if not np.isnan(column.values).all()}
    # In float64: the mean of the two numbers in the middle may be too large for float32.
    return {name: float(np.nanmedian(values.astype(np.float64))) for name, values in found.items()}


def tell_missing(
    columns: Mapping[str, Column], kinds: FeatureKinds, texts: Iterable[str], impute: Mapping[str, float]
) -> None:
    """Warn of columns without a value in any training row, of which a model learns nothing.

    Args:
        columns: Columns of the training rows, by name.
        kinds: The features.
        texts: Columns of the text fields.
        impute: Imputation values, as :func:`fit_impute` returns them.

    Raises:
        DataError: The model reads nothing else.
    """
    others = dict.fromkeys([*kinds.categories, *texts])
    read = {*kinds.numbers, *others}
    missing = [name for name in kinds.numbers if name not in impute]
    missing += [name for name in others if name not in missing and not _has_value(columns[name])]
    if not missing:
        return
    named = ", ".join(map(repr, missing))
    if len(missing) == len(read):
        what, fix = f"no training row has a value in any column that the model reads: {named}", "name other columns"
        raise DataError(what, where="config.tab_field_list", fix=fix)
    log.warning(
        "no training row has a value in %s: the model learns nothing from %s; look at the table, or remove %s from the "
        "config",
        *(named, *(["these columns", "them"] if missing[1:] else ["this column", "it"])),
    )


def _has_value(column: Column) -> bool:
    """Return whether a cell is neither missing nor without a text."""
    if isinstance(column, pa.Array | pa.ChunkedArray) and column.null_count == len(column):
        return False
    return any(text.strip() and category_key(text) != "nan" for text in category_texts(column))


def _advice(read: Mapping[str, FeatureColumn], names: Iterable[str]) -> list[str]:
    """Return advice on the spelling of numbers, for columns of which no cell is a number."""
    counts, rows = Counter[str](), 0
    for name in names:
        column, rows = read[name], len(read[name].values)
        counts[f"missing:{name}"] = rows - len(column.bad)
        counts.update(f"reason:{FEATURE}:{kind_of(reason)}:{name}" for reason in column.bad.values())
    return advice(counts, rows, None)


def fit_magnitudes(
    columns: Mapping[str, Column],
    names: Iterable[str],
    impute: Mapping[str, float],
    dialect: Dialect | None = None,
) -> dict[str, float]:
    """Return the largest absolute value of each numeric feature: the config key ``largest_magnitudes``.

    Args:
        columns: Columns by name, with at least one row.
        names: Names of the features.
        impute: Imputation values, as :func:`fit_impute` returns them.
        dialect: Spelling of numbers in text. None: the plain one.
    """
    imputers = {name: Imputer(impute.get(name, MISSING_NUMBER)) for name in names}
    return {n: float(np.abs(imputer.transform(columns[n], dialect).values).max()) for n, imputer in imputers.items()}


def fit_risk_tables(
    rows: Rows, names: Iterable[str], *, classes: int, smoothing: float, min_count: int
) -> dict[str, dict[str, Any]]:
    """Return the risk tables of categorical features: for each category, a smoothed mean of the label, from 0 to 1.

    With two classes, the mean is the share of class 1. With more classes, it is the mean class index divided by the
    highest class index. Smoothing moves the mean of a category toward the mean of all rows, which is also the default:
    ``(sum + smoothing · mean) / (count + smoothing)``
    (Micci-Barreca, 2001, doi:10.1145/507533.507538, with a constant weight).

    Args:
        rows: The training rows.
        names: Names of the features.
        classes: Number of classes.
        smoothing: Weight of the mean of all rows, in rows.
        min_count: Fewest rows of a category that has a bin.

    Returns:
        ``{feature: {"bins": {category: risk}, "default_bin": risk}}``; a missing cell is the category ``"nan"``.
    """
    risk = rows.labels.numpy() / (classes - 1)
    mean = float(risk.mean())
    tables = {}
    for name in names:
        spelling: dict[Any, str] = {}  # 3 and 3.0 are one category, as when a risk table is applied
        cells = [spelling.setdefault(category_key(text), text) for text in category_texts(rows.columns[name])]
        texts, codes = np.unique(np.array(cells, dtype=object), return_inverse=True)
        counts, sums = np.bincount(codes), np.bincount(codes, weights=risk)
        risks = (sums + smoothing * mean) / np.maximum(counts + smoothing, 1e-12)
        bins = {str(text): float(r) for text, r, n in zip(texts, risks, counts, strict=True) if n >= min_count}
        tables[name] = {"bins": bins, "default_bin": mean}
    return tables


def balanced_weights(labels: Tensor, classes: int) -> list[float]:
    """Return the weight of each class, ``rows / (classes · rows of the class)``; 1 for a class without rows.

    The formula is that of ``class_weight="balanced"`` in scikit-learn.
    """
    counts = labels.bincount(minlength=classes).tolist()
    return [len(labels) / (classes * count) if count else 1.0 for count in counts]
