"""Evaluating predictions: how well the probabilities of a run fit the labels that are known by now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsm_core.errors import DataError, MissingColumnsError, UsageError, quoted
from bsm_core.evaluation.bootstrap import CONFIDENCE, Estimate, Floats
from bsm_core.evaluation.class_index import ClassIndex, Labels
from bsm_core.evaluation.join_report import left_out_lines, spelling_lines
from bsm_core.evaluation.label_join import Joined, join_labels
from bsm_core.evaluation.measure import ClassMetrics, measure
from bsm_core.evaluation.predictions import Predictions
from bsm_core.scoring.comparing.prediction_columns import PREFIX, columns_found
from bsm_core.scoring.comparing.prediction_rows import ids_and_probabilities, tables_of
from bsm_core.storage.objects import place
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource

log = logging.getLogger("bsm")

RESAMPLES = 1000
"""Default number of bootstrap resamples."""
SEED = 0
_FAR_FROM_1, _ROUNDING = 1e-3, 1e-6


@dataclass(frozen=True)
class Evaluation:
    """Metrics of predictions.

    Attributes:
        predictions: Path or URL of the predictions.
        labels: Path or URL of the labels.
        id_field: Name of the id column.
        label_column: Name of the label column.
        rows: Number of rows that are evaluated.
        joined: How the files were joined, and what was left out.
        metrics: Metrics by name: of two classes, all of them, for class 1; of more classes ``log_loss``, ``brier``,
            ``ece`` and ``accuracy``.
        classes: Each class with its number of rows and, for more than two classes, its metrics.
        macro: Means over the classes, in which each class counts the same; None for two classes.
        weighted: Means over the classes, in which a class counts as often as it has rows; None for two classes.
        resamples: Number of bootstrap resamples of the intervals; 0: there are no intervals.
        confidence: Confidence level of the intervals.
        seed: Seed of the resamples.
    """

    predictions: str
    labels: str
    id_field: str
    label_column: str
    rows: int
    joined: Joined
    metrics: dict[str, Estimate]
    classes: list[ClassMetrics]
    macro: dict[str, Estimate] | None
    weighted: dict[str, Estimate] | None
    resamples: int
    confidence: float
    seed: int


def evaluate(
    predictions: str | Path,
    labels: str | Path,
    *,
    label_column: str | None = None,
    id_field: str | None = None,
    classes: Sequence[object] | None = None,
    dialect: Dialect | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Measure how well predictions fit labels. The files are joined on the id.

    The ids, the probabilities and the labels of all rows are in memory; no model is loaded.

    Args:
        predictions: Output folder of a run, also of shards that are not merged, or a prediction file of any format.
        labels: Table with the id and the label of each row: a file, a folder or a pattern of files, of any format that
            a run reads.
        label_column: Name of the label column. None: the label column of the training job, if the run recorded it; else
            the only other column of ``labels`` than the id.
        id_field: Name of the id column of both files. None: the first column of the predictions.
        classes: Label of each class, in the order of ``prob_class_0``, ``prob_class_1`` and so on. None: the labels
            that the run recorded; without a record, the class indices and, for two classes, ``false`` and ``true``.
        dialect: Dialect of ``labels``, if they are CSV or TSV. None: plain CSV or TSV in UTF-8, with a header.
        resamples: Number of bootstrap resamples, from which the intervals are computed; 0 for no intervals.

    Raises:
        UsageError: The predictions have no usable probability columns, shards are missing, or an argument is wrong.
        NoInferenceDataError: There are no predictions or no labels.
        MissingColumnsError: A file has no id column, or the label column is missing or not known.
        DataError: No row can be evaluated, a probability is not a number from 0 to 1, or a file cannot be read.

    Example:
        Evaluate the predictions of a run, and print the AUROC with its interval::

            found = bsm_core.evaluate("predictions", "labels.csv", label_column="churned")
            auroc = found.metrics["auroc"]
            print(auroc.value, auroc.low, auroc.high)
    """
    if resamples < 0:
        raise UsageError(f"the number of resamples is {resamples}", fix="give a number from 0, such as 1000")
    found, theirs = Predictions.open(place(predictions)), TableSource.open(place(labels), dialect=dialect)
    names, id_field = found.probability_columns(), found.id_column(id_field)
    found.source.require({id_field: "bsm evaluate as the id"} | dict.fromkeys(names, "bsm evaluate"))
    theirs.require({id_field: "bsm evaluate as the id"})
    recorded = found.recorded_labels(len(names))
    label_column = _label_column(theirs, id_field, label_column, recorded.column)
    index = ClassIndex.of(recorded, len(names), classes)
    where = str(theirs.files[0])
    read = Labels.read(tables_of(theirs, [id_field, label_column]), id_field, label_column, index, where)
    ids, probabilities = ids_and_probabilities(found.read([id_field, *names]), id_field, names, found.where)
    probabilities = _checked(probabilities, ids, found.where)
    codes, joined = join_labels(ids, np.isfinite(probabilities.sum(axis=1)), read)
    evaluated = codes >= 0
    if not evaluated.any():
        raise _nothing_left(joined, found.where, where)
    measured = measure(probabilities[evaluated], codes[evaluated], index.names, resamples, SEED)
    return Evaluation(
        predictions=found.where,
        labels=str(labels),
        id_field=id_field,
        label_column=label_column,
        rows=int(evaluated.sum()),
        joined=joined,
        **measured._asdict(),
        resamples=resamples,
        confidence=CONFIDENCE,
        seed=SEED,
    )


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


def _checked(probabilities: Floats, ids: Sequence[str], where: str) -> Floats:
    """Return probabilities that are all from 0 to 1, rounding errors corrected; warn of rows whose sum is not 1.

    Raises:
        DataError: One is not; the first is named.
    """
    outside = (probabilities < -_ROUNDING) | (probabilities > 1 + _ROUNDING)
    if outside.any():
        row, column = (int(place[0]) for place in outside.nonzero())
        what = f"the probability {probabilities[row, column]:g} is not from 0 to 1"
        place_of = f"{where}: column {PREFIX}{column}, row {row + 1:,}, id {quoted(ids[row])}"
        raise DataError(what, where=place_of, fix="evaluate probabilities, and no logits or percentages")
    sums = probabilities.sum(axis=1)
    far = np.flatnonzero(np.abs(sums - 1) > _FAR_FROM_1)
    if len(far):
        log.warning(
            "%s: the probabilities of %s row(s) do not add up to 1, such as those of id %s; log loss and Brier score "
            "mean little then",
            where,
            f"{len(far):,}",
            quoted(ids[far[0]]),
        )
    return np.clip(probabilities, 0, 1)


def _nothing_left(joined: Joined, predictions: str, labels: str) -> DataError:
    return DataError(
        "no row can be evaluated: no prediction has both probabilities and a label",
        where=f"{predictions}, {labels}",
        details=[*left_out_lines(joined), *spelling_lines(joined)],
        fix="check that both files have the same ids; another id column can be given with --id-field",
    )
