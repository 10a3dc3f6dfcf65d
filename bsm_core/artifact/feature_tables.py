"""Risk tables and imputation values: reading and checking them.

An artifact may have each of them twice, as JSON and as a pickle. JSON has text for keys only, so the keys of pickled
bins become text in :func:`bin_text`, and both files hold the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from bsm_core.artifact.files import IMPUTE, RISK_TABLES, corrupt, read_json_object, require
from bsm_core.artifact.untrusted.safe_pickle import load_pickle
from bsm_core.errors import short_repr

MISSING_NUMBER = -1.0
"""Value of a missing number whose feature has no imputation value."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class RiskTableValues(TypedDict):
    """Values of one categorical feature.

    Attributes:
        bins: Value by category.
        default_bin: Value of every other category.
    """

    bins: dict[str, float]
    default_bin: float


def read_risk_tables(folder: Path, ignored: Collection[str] = ()) -> dict[str, RiskTableValues]:
    """Read ``risk_table_map.json``, or ``risk_table_map.pkl`` if that is not there.

    Args:
        folder: The artifact's folder.
        ignored: Names of text fields. Their tables, if there are any, are left out unchecked.

    Raises:
        CorruptArtifactError: The file cannot be read, or a table has another form; the error lists each.
        UnsafeArtifactError: The pickle refers to forbidden code.
    """
    [path] = require(folder, RISK_TABLES)
    tables = {name: table for name, table in _read(path).items() if name not in ignored}
    return check_risk_tables(tables, where=path.name)


def read_impute(folder: Path) -> dict[str, float]:
    """Read ``impute_dict.json``, or ``impute_dict.pkl`` if that is not there.

    Raises:
        CorruptArtifactError: The file cannot be read, or a value is not a number; the error lists each.
        UnsafeArtifactError: The pickle refers to forbidden code.
    """
    [path] = require(folder, IMPUTE)
    return check_impute(_read(path), where=path.name)


def bin_text(key: object) -> str:
    """Return a category as the text that a cell is compared with.

    ``None`` and NaN become ``"nan"``; anything else becomes its ``str`` (``3``, ``3.0``, ``True``).

    Raises:
        TypeError: The key is neither text nor a number.
    """
    if key is None:
        return "nan"
    if isinstance(key, str | int | float):
        return str(key)
    raise TypeError(f"category {short_repr(key)} is neither text nor a number")


def risk_of_missing(bins: Mapping[str, float], default_bin: float) -> float:
    """Return the risk of a missing category: the bin ``"nan"``, else the bin ``""``, else the default bin."""
    return bins.get("nan", bins.get("", default_bin))


def check_risk_tables(tables: Mapping[Any, Any], *, where: str) -> dict[str, RiskTableValues]:
    """Check and normalize ``{feature: {"bins": {category: number}, "default_bin": number}}``.

    Raises:
        CorruptArtifactError: A value has another form; the error lists each place.
    """
    problems: list[str] = []
    checked = {str(name): _risk_table(str(name), table, problems) for name, table in tables.items()}
    _report(problems, where, "{feature: {bins: {category: number}, default_bin: number}}")
    return checked


def check_impute(values: Mapping[Any, Any], *, where: str) -> dict[str, float]:
    """Check and normalize ``{feature: number}``.

    Raises:
        CorruptArtifactError: A value has another form; the error lists each place.
    """
    problems: list[str] = []
    present = {name: value for name, value in values.items() if not _is_missing(value)}
    checked = {str(name): _number(value, str(name), problems) for name, value in present.items()}
    _report(problems, where, "{feature: number}")
    return checked


def _risk_table(name: str, table: Any, problems: list[str]) -> RiskTableValues:
    bins: dict[str, float] = {}
    if not (isinstance(table, Mapping) and isinstance(table.get("bins"), Mapping) and "default_bin" in table):
        problems.append(f"{name}: not a table with bins and default_bin")
        return RiskTableValues(bins=bins, default_bin=math.nan)
    for key, value in table["bins"].items():
        try:
            text = bin_text(key)
        except TypeError as error:
            problems.append(f"{name}.bins: {error}")
            continue
        number = _number(value, f"{name}.bins[{text!r}]", problems)
        if bins.setdefault(text, number) != number and not math.isnan(number):
            problems.append(f"{name}.bins[{text!r}]: several categories have this text, with different values")
    return RiskTableValues(bins=bins, default_bin=_number(table["default_bin"], f"{name}.default_bin", problems))


def _is_missing(value: Any) -> bool:
    """Return whether a value is null or NaN, which training writes for a feature without any value."""
    return value is None or (np.isscalar(value) and value != value)


def _number(value: Any, place: str, problems: list[str]) -> float:
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT32_MAX:  # not NaN either
        return float(value)
    problems.append(f"{place}: {short_repr(value)} is not a finite float32 number")
    return math.nan


def _report(problems: list[str], where: str, form: str) -> None:
    if problems:
        problem = f"holds {len(problems)} value(s) that cannot be used"
        raise corrupt(where, problem, f"save it as {form}", details=problems)


def _read(path: Path) -> Mapping[Any, Any]:
    value = read_json_object(path) if path.suffix == ".json" else load_pickle(path)
    if not isinstance(value, Mapping):
        raise corrupt(path.name, f"holds a {type(value).__name__}, not a dict")
    return value
