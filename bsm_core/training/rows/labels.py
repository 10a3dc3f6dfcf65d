"""Labels as class indices."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bsm_core.errors import DataError, nearest, short_repr
from bsm_core.preprocess.cells import Column, category_key, category_texts, values_at

_NAMED = 10
"""Largest number of rows or values that an error names."""
_MISSING = "nan"
"""Category key of a missing label."""
_DIGITS = 38
"""Largest number of digits of a label that is a number, as in Arrow's decimal128."""
_TIMES = (dt.datetime, dt.timedelta, np.datetime64, np.timedelta64)
_NO_LABELS = (Mapping, list, tuple, set, frozenset, np.ndarray, dt.time, *_TIMES)
"""Types of Python objects that are no labels, as the types of Arrow to which they correspond are none."""


def label_value(key: Decimal) -> int | float | str:
    """Return the label of a number: an integer or a float if it holds the number exactly, else the number as text."""
    if key.is_zero() or (0 <= key.adjusted() < _DIGITS and key == key.to_integral_value()):
        return int(key)
    number = float(key)
    return number if Decimal(repr(number)) == key else str(key)


def require_labels(column: Column, name: str) -> None:
    """Check that the cells of a label are of types that have a text. Bytes that are no text count as missing.

    Args:
        column: The labels.
        name: Name of the column, for errors.

    Raises:
        DataError: Labels are lists, objects or times; the error has an example.
    """
    if isinstance(column, pa.Array | pa.ChunkedArray):
        there = column.is_valid().to_pylist() if column.null_count else [True] * len(column)
        rows = [i for i, text in enumerate(category_texts(column)) if text == _MISSING and there[i]]
        wrong = next((value for value in values_at(column, rows) if not _is_missing(value)), None)
    else:
        wrong = next((value for value in column if isinstance(value, _NO_LABELS) and not _is_missing(value)), None)
    if wrong is not None:
        raise DataError(
            f"a label is a value of type {type(wrong).__name__}, such as {short_repr(wrong)}, which is no class",
            where=f"label_name: column {name!r}",
            fix="make texts, booleans or whole numbers of the labels, such as the day of a time or one item of a list",
        )


def _is_missing(value: Any) -> bool:
    """Return whether a value without a category is a missing one, such as NaN or NaT, and not one of another type."""
    is_nat = isinstance(value, _TIMES) and str(value) == "NaT"
    return is_nat or isinstance(value, str | bytes | float | Decimal | None)


def class_order(
    column: Column, name: str, classes: int, given: Collection[Any] | None, positive: str | float | None = None
) -> list[Any]:
    """Return the label of each class, in the order of ``prob_class_0``, ``prob_class_1`` and so on.

    Args:
        column: The labels.
        name: Name of the column, for errors.
        classes: Number of classes.
        given: The config's ``multiclass_categories``, which sets the order. Without it, numbers come first, in
            ascending order, then texts.
        positive: The config's ``positive_class``, the label that becomes class 1 of two.

    Raises:
        DataError: Labels are of no type that a class can have, the number of distinct labels is not ``classes``, or
            ``positive`` is none of them.
    """
    require_labels(column, name)
    rows: Counter[Decimal | str] = Counter()
    for text, count in Counter(category_texts(column)).items():
        rows[category_key(text)] += count
    found: dict[Decimal | str, Any] = {category_key(str(value)): value for value in given or ()}
    if given is None:
        numbers = sorted(key for key in rows if isinstance(key, Decimal))
        texts = sorted(key for key in rows if isinstance(key, str) and key != _MISSING)
        found = {key: label_value(key) for key in numbers}
        found |= {key: key for key in texts}
    if (number := len(found)) != classes or classes < 2:
        shown = _first([f"{value!r} ({rows[key]:,} rows)" for key, value in found.items()])
        raise DataError(
            f"the label {name!r} has {number} class(es), the config expects {classes}",
            where=f"column {name!r}",
            details=[f"classes: {', '.join(shown) or 'none'}"],
            fix=f"correct wrong labels; or set num_classes to {number} and is_binary to {str(number == 2).lower()}; or"
            " set label_name to another column"
            if number > 1
            else "give rows of at least two classes",
        )
    if positive is not None:
        _require_label(positive, found)
        found = dict(sorted(found.items(), key=lambda item: item[0] == category_key(str(positive))))
    return list(found.values())


def _require_label(positive: str | float, found: Mapping[Decimal | str, Any]) -> None:
    """Check that a label is that of a class."""
    if category_key(str(positive)) not in found:
        labels = [str(label) for label in found.values()]
        near = nearest(str(positive), labels)
        raise DataError(
            f"positive_class is {positive!r}, which is not a label" + (f"; did you mean {near!r}?" if near else ""),
            where="config.positive_class",
            fix=f"write one of the labels: {', '.join(map(repr, found.values()))}",
        )


def class_indices(
    column: Column, name: str, order: Sequence[Any], called: str = "data", *, may_lack: bool = False
) -> Tensor:
    """Return labels as class indices, int64 ``[rows]``; -1 for a missing label.

    Args:
        column: The labels.
        name: Name of the column, for errors.
        order: Label of each class.
        called: Name of the table, for errors.
        may_lack: Whether labels may be missing.

    Raises:
        DataError: Labels do not belong to a class, or are missing without ``may_lack``. The error names the rows.
    """
    require_labels(column, name)
    index = {category_key(str(value)): i for i, value in enumerate(order)}
    texts = category_texts(column)
    known = {text: index.get(category_key(text), -1) for text in set(texts)}
    labels = torch.tensor([known[text] for text in texts], dtype=torch.int64)
    bad = (labels < 0).nonzero().flatten().tolist()
    missing = [i for i in bad if category_key(texts[i]) == _MISSING]
    if may_lack:
        bad = sorted({*bad} - {*missing})
    if bad:
        rows = [f"row {i + 1}: {'no label' if category_key(texts[i]) == _MISSING else repr(texts[i])}" for i in bad]
        skip = (
            "" if may_lack or not missing else '; or set on_missing_label to "skip" to leave out rows without a label'
        )
        raise DataError(
            f"{len(bad):,} row(s) have no label, or a label that is not one of the classes",
            where=f"{called}, column {name!r}",
            details=[*_first(rows), f"classes: {', '.join(map(repr, order))}"],
            fix=f"correct these rows or remove them{skip}; the first row of the table is row 1",
        )
    return labels


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _NAMED else [*lines[:_NAMED], "..."]
