"""Risk tables and imputation values: reading and checking them.

An artifact may have each of them twice, as JSON and as a pickle. JSON has text for keys only, so the keys of pickled
bins become text in :func:`bin_text`, and both files hold the same tables.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np

from bsm_core.artifact.files import IMPUTE, RISK_TABLES, corrupt, read_json_object
from bsm_core.artifact.untrusted.safe_pickle import load_pickle
from bsm_core.errors import ArtifactError, short_repr

MISSING_NUMBER = -1.0
"""Value of a missing number whose feature has no imputation value."""

log = logging.getLogger("bsm")
T = TypeVar("T")
_SAME = 1e-6
"""Relative difference up to which two values are the same: a text file may hold fewer digits."""
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
    """Read ``risk_table_map.json`` and ``risk_table_map.pkl``, of which an artifact has one, both or none.

    Args:
        folder: The artifact's folder.
        ignored: Names of text fields. Their tables, if there are any, are left out unchecked.

    Raises:
        CorruptArtifactError: A file cannot be read, a table has another form, or the files differ.
        UnsafeArtifactError: The pickle refers to forbidden code.
    """

    def read(path: Path) -> dict[str, RiskTableValues]:
        tables = {name: table for name, table in _read(path).items() if name not in ignored}
        return check_risk_tables(tables, where=path.name)

    return _read_twins(folder, RISK_TABLES, read)


def read_impute(folder: Path) -> dict[str, float]:
    """Read ``impute_dict.json`` and ``impute_dict.pkl``, of which an artifact has one, both or none.

    Raises:
        CorruptArtifactError: A file cannot be read, a value is not a number, or the files differ.
        UnsafeArtifactError: The pickle refers to forbidden code.
    """
    return _read_twins(folder, IMPUTE, lambda path: check_impute(_read(path), where=path.name))


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


def _read_twins(folder: Path, names: Sequence[str], read: Callable[[Path], dict[str, T]]) -> dict[str, T]:
    """Return the content of the first file; raise if the other one, if it can be read, has other values."""
    paths = [folder / name for name in names if (folder / name).is_file()]
    if not paths:
        return {}
    content = read(paths[0])
    for twin in paths[1:]:
        try:
            difference = next(_differences(content, read(twin)), None)
        except ArtifactError as error:  # such as a pickle that refers to code, beside which the safe file was saved
            log.warning("%s is used, and cannot be compared with its twin: %s", paths[0].name, error.one_line())
            continue
        if difference:
            both = f"{paths[0].name} and {twin.name}"
            fix = "remove the file that is not of this model, or keep one with `bsm pack --prefer json|pickle`"
            raise corrupt(both, "hold different values", fix, details=[f"the first difference: {difference}"])
    return content


def _differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from _differences(one.get(key), other.get(key), f"{place}.{key}" if place else str(key))
    elif one is None or other is None or not math.isclose(one, other, rel_tol=_SAME):
        yield f"{place} is {_words(one)} and {_words(other)}"


def _words(value: Any) -> str:
    return "not there" if value is None else short_repr(value)


def _read(path: Path) -> Mapping[Any, Any]:
    value = read_json_object(path) if path.suffix == ".json" else load_pickle(path)
    if not isinstance(value, Mapping):
        raise corrupt(path.name, f"holds a {type(value).__name__}, not a dict")
    return value
