"""Scaling of the features, fitted on the training rows alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bsm_core.artifact.features.feature_scaling import (
    MOST_CATEGORIES,
    MOST_QUANTILES,
    FeatureScaling,
    Floats,
    OneHot,
    QuantileScaling,
    RobustScaling,
    Scaling,
    StandardScaling,
    Unscaled,
)
from bsm_core.artifact.features.feature_tables import MISSING_NUMBER
from bsm_core.errors import ConfigError
from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.preprocess.features import FeatureColumn, Imputer, RiskTable
from bsm_core.training.features.feature_keys import FeatureKeys, FeatureKinds, ScalingKind
from bsm_core.training.rows.data import Rows

log = logging.getLogger("bsm")
_MANY_TIMES = 10
"""Ratio of the sizes of two features above which a warning says that the larger one hides the other."""
_NAMED = 10


def fit_scaling(
    rows: Rows,
    kinds: FeatureKinds,
    keys: FeatureKeys,
    impute: Mapping[str, float],
    risk_tables: Mapping[str, Mapping[str, Any]],
) -> FeatureScaling:
    """Return the scaling of the features.

    Features of very different sizes that are not scaled are a warning.

    Args:
        rows: The training rows.
        kinds: The features by kind.
        keys: Config keys of the features.
        impute: Imputation values.
        risk_tables: Risk tables.

    Raises:
        ConfigError: A feature of ``one_hot`` has too many categories.
    """
    found: dict[str, Scaling] = {}
    sizes: dict[str, float] = {}
    for name in [*kinds.numbers, *kinds.tables]:
        column = _column(rows, name, impute, risk_tables)
        kind, values = keys.kind(name), column.exact if column.exact is not None else np.zeros(1)
        found[name] = _fitted(name, kind, values, has_indicator=_has_indicator(name, keys, column.filled))
        if kind == "none" and values.min() < values.max():
            sizes[name] = float(max(abs(values.mean()), values.std()))
    _warn_of_sizes(sizes, others=bool(kinds.one_hot) or any(keys.kind(name) != "none" for name in found))
    found |= {name: OneHot(categories=_categories(name, rows.columns[name])) for name in kinds.one_hot}
    plain = Unscaled()
    return FeatureScaling(features={name: scaling for name, scaling in found.items() if scaling != plain})


def _column(
    rows: Rows, name: str, impute: Mapping[str, float], risk_tables: Mapping[str, Mapping[str, Any]]
) -> FeatureColumn:
    """Return a feature as the runner reads it, before scaling."""
    if table := risk_tables.get(name):
        return RiskTable(table["bins"], table["default_bin"], Unscaled()).transform(rows.columns[name])
    return Imputer(impute.get(name, MISSING_NUMBER), Unscaled()).transform(rows.columns[name], rows.dialect)


def _has_indicator(name: str, keys: FeatureKeys, filled: npt.NDArray[np.bool_] | None) -> bool:
    if filled is None or not keys.has_indicator(name):
        return False
    if not filled.any() and isinstance(keys.missing_indicators, list):
        log.warning("missing_indicators names %r, but no training row lacks this number: it gets no indicator", name)
    return bool(filled.any())


def _fitted(name: str, kind: ScalingKind, values: Floats, *, has_indicator: bool) -> Scaling:
    """Return the scaling of one feature; the scale of values that are all equal is 1."""
    if kind == "standard":
        std = _scale(float(values.std()), values)
        return StandardScaling(mean=float(values.mean()), std=std, missing_indicator=has_indicator)
    if kind == "robust":
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        iqr = _scale(high - low, values)
        if iqr != high - low and values.min() < values.max():
            told = "robust scaling does not change the size of %r: half of its values are %g; use standard or quantile"
            log.warning(told, name, median)
        return RobustScaling(median=median, iqr=iqr, missing_indicator=has_indicator)
    if kind == "quantile":
        ranks = np.linspace(0, 1, min(MOST_QUANTILES, len(values)))
        quantiles = np.maximum.accumulate(np.quantile(values, ranks))  # rounding may put them out of order
        return QuantileScaling(quantiles=tuple(quantiles.tolist()), missing_indicator=has_indicator)
    return Unscaled(missing_indicator=has_indicator)


def _scale(scale: float, values: Floats) -> float:
    """Return a scale, or 1 if the values differ by rounding alone."""
    rounding = 10 * float(np.finfo(np.float64).eps) * float(np.abs(values).max())
    return scale if scale > rounding else 1.0


def _categories(name: str, column: Column) -> tuple[str, ...]:
    """Return the categories of a column, sorted; a missing cell is ``"nan"``."""
    spelling: dict[Any, str] = {"nan": "nan"}  # 3 and 3.0 are one category, as when they are looked up
    texts = dict.fromkeys(category_texts(column))
    found = sorted({spelling.setdefault(category_key(text), text) for text in texts})
    if len(found) > MOST_CATEGORIES:
        raise ConfigError(
            f"the feature {name!r} has {len(found):,} categories in training, more than {MOST_CATEGORIES}",
            where="config.one_hot",
            details=[f"the first: {', '.join(map(repr, found[:_NAMED]))}"],
            fix="name it in cat_field_list instead, so that it gets a risk table",
        )
    return tuple(found)


def _warn_of_sizes(sizes: Mapping[str, float], *, others: bool) -> None:
    """Warn of features that are not scaled, if they have very different sizes.

    Args:
        sizes: Magnitude of each feature that is not scaled.
        others: Whether there are scaled features, whose size is about 1.
    """
    known = [*sizes.values(), *([1.0] if others else [])]
    if not sizes or max(known) <= _MANY_TIMES * min(known):
        return
    ranked = sorted(sizes.items(), key=lambda item: -item[1])
    shown = [f"{name!r} about {size:.3g}" for name, size in ranked]
    named = shown if len(shown) <= _NAMED else [*shown[: _NAMED // 2], "...", *shown[-_NAMED // 2 :]]
    log.warning(
        "features of very different sizes are not scaled: %s%s; large ones hide small ones. Leave out scaling, or set "
        'it to "standard"',
        ", ".join(named),
        ", the others about 1" if others else "",
    )
