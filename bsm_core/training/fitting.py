"""What is fitted beside the weights: risk tables, imputation values, class weights. On the training part alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from bsm_core.errors import DataError
from bsm_core.preprocess.features import Column, Imputer, category_key, category_texts


def fit_impute(columns: Mapping[str, Column], names: Iterable[str]) -> dict[str, float]:
    """The median of each numeric feature; none for a feature that is missing everywhere.

    Raises:
        DataError: A feature has cells, but not a single number among them.
    """
    read = {name: Imputer(np.nan).transform(columns[name]) for name in names}
    if texts := [name for name, column in read.items() if column.bad and np.isnan(column.values).all()]:
        raise DataError(
            f"features without a single number: {', '.join(map(repr, texts))}",
            where="config.tab_field_list",
            fix="list categories in cat_field_list too, and leave out what is no feature",
        )
    return {name: float(np.nanmedian(c.values)) for name, c in read.items() if not np.isnan(c.values).all()}


def fit_risk_tables(
    columns: Mapping[str, Column],
    names: Iterable[str],
    labels: Tensor,
    *,
    classes: int,
    smoothing: float,
    min_count: int,
) -> dict[str, dict[str, Any]]:
    """The risk of each category of some features: a smoothed mean of the label, scaled to 0..1.

    With two classes that is the share of class 1; with more, the mean class index over the highest one. A category's
    mean is drawn towards that of all rows, which is also the default:
    ``(sum + smoothing · mean) / (count + smoothing)``
    (Micci-Barreca, 2001, doi:10.1145/507533.507538, with a constant weight).

    Args:
        columns: Columns by name.
        names: The features.
        labels: int64 ``[rows]``, class indices.
        classes: Number of classes.
        smoothing: How many rows of the overall mean each category is mixed with.
        min_count: A category with fewer rows has no bin of its own.

    Returns:
        ``{feature: {"bins": {category: risk}, "default_bin": risk}}``; missing cells are the category ``"nan"``.
    """
    risk = labels.numpy() / (classes - 1)
    mean = float(risk.mean())
    tables = {}
    for name in names:
        spelling: dict[Any, str] = {}  # 3 and 3.0 are one category, as they are to a risk table
        cells = [spelling.setdefault(category_key(text), text) for text in category_texts(columns[name])]
        texts, codes = np.unique(np.array(cells, dtype=object), return_inverse=True)
        counts, sums = np.bincount(codes), np.bincount(codes, weights=risk)
        risks = (sums + smoothing * mean) / np.maximum(counts + smoothing, 1e-12)
        bins = {str(text): float(r) for text, r, n in zip(texts, risks, counts, strict=True) if n >= min_count}
        tables[name] = {"bins": bins, "default_bin": mean}
    return tables


def balanced_weights(labels: Tensor, classes: int) -> list[float]:
    """``rows / (classes · rows of the class)``, as in scikit-learn's ``"balanced"``; 1 for a class without rows."""
    counts = labels.bincount(minlength=classes).tolist()
    return [len(labels) / (classes * count) if count else 1.0 for count in counts]
