"""Columns that predictions add to a table: the probability of each class and, if asked for, the predicted class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.errors import DataError

PREDICTED_CLASS = "predicted_class"
"""Name of the column of the predicted class."""

Classes: TypeAlias = Sequence[str] | Sequence[int]
"""Name of each class, in the order of the probabilities."""


def probability_names(num_classes: int) -> list[str]:
    """Return the names of the probability columns: ``prob_class_0``, ``prob_class_1``, …"""
    return [f"prob_class_{i}" for i in range(num_classes)]


def added_fields(num_classes: int, classes: Classes | None) -> list[pa.Field]:
    """Return the columns that :func:`with_probabilities` adds."""
    fields = [pa.field(name, pa.float64()) for name in probability_names(num_classes)]
    return fields if classes is None else [*fields, pa.field(PREDICTED_CLASS, pa.array(classes).type)]


def check_names(keep: Collection[str], num_classes: int, classes: Classes | None) -> None:
    """Check that no kept column is named like one that is added.

    Raises:
        DataError: A column is.
    """
    if taken := {*keep} & {field.name for field in added_fields(num_classes, classes)}:
        raise DataError(
            f"the data has a column with the name of a prediction column: {', '.join(sorted(taken))}",
            fix="rename it, or leave it out of --keep-columns",
        )


def with_probabilities(
    kept: pa.Table,
    probabilities: npt.NDArray[np.float64],
    failed: Sequence[int] = (),
    classes: Classes | None = None,
) -> pa.Table:
    """Return the kept columns followed by float64 columns ``prob_class_*`` and, if asked for, ``predicted_class``.

    Args:
        kept: Columns of ``rows`` rows.
        probabilities: Float64 ``[rows, classes]``.
        failed: Rows whose probabilities are null.
        classes: Name of each class, for the predicted class of each row. None: the column is left out.
    """
    empty = None
    if failed:
        empty = np.zeros(len(probabilities), bool)
        empty[failed] = True
    columns = [pa.array(column, type=pa.float64(), mask=empty) for column in probabilities.T]
    if classes is not None:
        columns.append(predicted_classes(probabilities, classes))
    fields = added_fields(probabilities.shape[1], classes)
    return pa.Table.from_arrays([*kept.columns, *columns], schema=pa.schema([*kept.schema, *fields]))


def predicted_classes(probabilities: npt.NDArray[np.float64], classes: Classes) -> pa.Array:
    """Return the class with the largest probability of each row, the first one if several have it.

    The class of a row whose probabilities are NaN is null.

    Args:
        probabilities: Float64 ``[rows, classes]``.
        classes: Name of each class.
    """
    failed = np.isnan(probabilities).any(axis=1)
    return pa.array(classes).take(pa.array(probabilities.argmax(axis=1), pa.int64(), mask=failed))
