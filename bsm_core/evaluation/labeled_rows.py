"""Predictions joined with labels: the rows that have both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bsm_core.errors import DataError, MissingColumnsError, UsageError, quoted
from bsm_core.evaluation.class_index import ClassIndex, Labels
from bsm_core.evaluation.join_report import left_out_lines, spelling_lines
from bsm_core.evaluation.label_join import Joined, join_labels
from bsm_core.evaluation.predictions import Predictions
from bsm_core.metrics.bootstrap import Floats
from bsm_core.scoring.comparing.prediction_columns import PREFIX, columns_found
from bsm_core.scoring.comparing.prediction_rows import ids_and_probabilities, tables_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource

log = logging.getLogger("bsm")

_FAR_FROM_1, _ROUNDING = 1e-3, 1e-6
_ID = "the predictions as the id (--id-field names another)"


@dataclass(frozen=True)
class LabeledRows:
    """Rows with probabilities and a label.

    Attributes:
        id_field, label_column: Names of the id column and of the label column.
        names: Name of each class.
        probabilities: Probability of each class, from 0 to 1, ``[rows, classes]``.
        labels: Class index of each row, ``[rows]``.
        joined: How the files were joined, and what was left out.
    """

    id_field: str
    label_column: str
    names: Sequence[str]
    probabilities: Floats
    labels: npt.NDArray[np.intp]
    joined: Joined

    @classmethod
    def read(
        cls,
        predictions: Predictions,
        labels: Path,
        *,
        label_column: str | None = None,
        id_field: str | None = None,
        classes: Sequence[object] | None = None,
        dialect: Dialect | None = None,
    ) -> LabeledRows:
        """Read predictions and labels, and join them on the id. See :func:`bsm_core.evaluation.evaluate.evaluate`."""
        theirs = TableSource.open(labels, dialect=dialect)
        names, id_field = predictions.probability_columns(), predictions.id_column(id_field)
        predictions.source.require({id_field: _ID} | dict.fromkeys(names, "the predictions"))
        theirs.require({id_field: _ID})
        recorded = predictions.recorded_labels(len(names))
        label_column = _label_column(theirs, id_field, label_column, recorded.column)
        index = ClassIndex.of(recorded, len(names), classes)
        where = str(theirs.files[0])
        read = Labels.read(tables_of(theirs, [id_field, label_column]), id_field, label_column, index, where)
        rows = predictions.read([id_field, *names])
        ids, probabilities = ids_and_probabilities(rows, id_field, names, predictions.where)
        probabilities = checked(probabilities, ids, predictions.where)
        _warn_of_sums(probabilities, ids, predictions.where)
        codes, joined = join_labels(ids, np.isfinite(probabilities.sum(axis=1)), read)
        has_both = codes >= 0
        if not has_both.any():
            raise _nothing_left(joined, predictions.where, where)
        return cls(id_field, label_column, index.names, probabilities[has_both], codes[has_both], joined)


def _label_column(source: TableSource, id_field: str, given: str | None, recorded: str | None) -> str:
    """Return the name of the label column; see :func:`evaluate`."""
    others = [name for name in dict.fromkeys(source.columns) if name != id_field and not name.startswith(PREFIX)]
    if given is not None:
        if given == id_field:
            raise UsageError(f"the label column is the id column, {given!r}", fix="give another --label-column")
        source.require({given: "--label-column"})
        return given
    if recorded in others:
        source.require({recorded: "the training job as the label"})
        return recorded
    if len(others) == 1:
        return others[0]
    trained = f"; the label of the training job, {recorded!r}, is not among them" if recorded else ""
    raise MissingColumnsError(
        "which column holds the labels?",
        where=str(source.files[0]),
        details=[columns_found(source) + trained],
        fix="give it with --label-column" if others else f"give a table with the column {id_field!r} and the labels",
    )


def checked(probabilities: Floats, ids: Sequence[str], where: str, start: int = 0) -> Floats:
    """Return probabilities that are all from 0 to 1, rounding errors corrected.

    Args:
        probabilities: Probability of each class, ``[rows, classes]``; NaN for an empty cell.
        ids: Ids of the rows.
        where: The file, for messages.
        start: Position of the first row in the file.

    Raises:
        DataError: One is not; the first is named.
    """
    outside = (probabilities < -_ROUNDING) | (probabilities > 1 + _ROUNDING)
    if outside.any():
        row, column = (int(place[0]) for place in outside.nonzero())
        what = f"the probability {probabilities[row, column]:g} is not from 0 to 1"
        place_of = f"{where}: column {PREFIX}{column}, row {start + row + 1:,}, id {quoted(ids[row])}"
        raise DataError(what, where=place_of, fix="give probabilities, and no logits or percentages")
    return np.clip(probabilities, 0, 1)


def _warn_of_sums(probabilities: Floats, ids: Sequence[str], where: str) -> None:
    """Warn of rows whose probabilities do not add up to 1."""
    far = np.flatnonzero(np.abs(probabilities.sum(axis=1) - 1) > _FAR_FROM_1)
    if len(far):
        log.warning(
            "%s: the probabilities of %s row(s) do not add up to 1, such as those of id %s; log loss and Brier score "
            "mean little then",
            where,
            f"{len(far):,}",
            quoted(ids[far[0]]),
        )


def _nothing_left(joined: Joined, predictions: str, labels: str) -> DataError:
    return DataError(
        "no row can be evaluated: no prediction has both probabilities and a label",
        where=f"{predictions}, {labels}",
        details=[*left_out_lines(joined), *spelling_lines(joined)],
        fix="check that both files have the same ids; another id column can be given with --id-field",
    )
