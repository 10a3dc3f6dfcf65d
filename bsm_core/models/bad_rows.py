"""Rows for which a model class fails: found one by one, to be named in an error or to be set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from bsm_core.errors import ModelFailedError
from bsm_core.models.batch import Batch

Predict: TypeAlias = Callable[[Batch], Tensor]
"""Function that returns the probabilities of a batch, ``[rows, classes]``, finite or not.

It raises :class:`ModelFailedError` if the model class fails, with the error of the class as its cause; without a cause,
the logits have a wrong shape, which is the fault of no row.
"""

NOT_FINITE = "probabilities that are NaN or infinite"
_LARGE = 1e6
"""Magnitude from which a feature is named as the possible cause of a failure."""


def bad_rows(predict: Predict, batch: Batch, rows: Tensor | None = None) -> Iterator[tuple[int, str]]:
    """Find the rows for which a model class fails when it scores them alone. Batches are halved until they are found.

    Args:
        predict: Function that scores a batch.
        batch: The batch.
        rows: Rows to look at, in order, int64. None: all rows.

    Yields:
        Each row at fault, in order, with the reason.
    """
    rows = torch.arange(batch.rows) if rows is None else rows
    try:
        suspects = rows[~predict(batch.select(rows)).isfinite().all(dim=1).cpu()]
        reason = NOT_FINITE
    except ModelFailedError as error:
        if error.__cause__ is None:
            raise
        suspects = rows
        reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
    if len(rows) == 1 and len(suspects) == 1:
        row = int(suspects)
        yield row, f"{reason}{large_numbers(batch, row)}"
    elif len(suspects):
        # Suspects next to a finite row are first tried without it: one row may spoil its neighbors.
        size = len(suspects) if len(suspects) < len(rows) else -(-len(suspects) // 2)
        for part in torch.split(suspects, size):
            yield from bad_rows(predict, batch, part)


def large_numbers(batch: Batch, row: int) -> str:
    """Return the largest features of a row in words, such as ``" (large numbers: 'amount' 1e+30)"``, or no text."""
    if not batch.features.numel():
        return ""
    sizes, columns = batch.features[row].abs().sort(descending=True)
    large = columns[sizes >= _LARGE][:3].tolist()
    names = batch.feature_names or range(batch.features.shape[1])
    named = ", ".join(f"{names[column]!r} {float(batch.features[row, column]):g}" for column in large)
    scaled = "" if batch.unscaled is None else " after scaling"
    return f" (large numbers{scaled}: {named})" if named else ""


def score_good_rows(predict: Predict, batch: Batch, classes: int) -> tuple[Tensor, dict[int, str]]:
    """Score a batch; a row for which the model class fails has probabilities that are NaN, and is no error.

    The other rows are scored together, with a copy of one of them in the place of each row at fault: the number of rows
    stays, because the last digits of a matrix product can depend on it.

    Args:
        predict: Function that scores a batch.
        batch: The batch.
        classes: Number of classes.

    Returns:
        The probabilities, and each row at fault, in order, with the reason.

    Raises:
        ModelFailedError: The model class fails for the batch, but for none of its rows alone.
    """
    failure: ModelFailedError | None = None
    probabilities = torch.full((batch.rows, classes), torch.nan, dtype=torch.float64)
    try:
        probabilities = predict(batch)
        if probabilities.isfinite().all():
            return probabilities, {}
    except ModelFailedError as error:
        failure = error
    reasons = dict(bad_rows(predict, batch))
    if failure and not reasons:
        raise failure
    good = [row for row in range(batch.rows) if row not in reasons]
    if reasons and good:
        rows, bad = torch.arange(batch.rows), torch.tensor([*reasons])
        rows[bad] = good[0]
        selected = batch.select(rows)
        probabilities = predict(selected)
        if batch.vectors is not None and selected.vectors is not None:
            batch.vectors.update(selected.vectors)
        probabilities[bad] = torch.nan
    return probabilities, reasons
