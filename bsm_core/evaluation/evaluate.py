"""Evaluating predictions: how well the probabilities of a run fit the labels that are known by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bsm_core.errors import UsageError
from bsm_core.evaluation.label_join import Joined
from bsm_core.evaluation.labeled_rows import LabeledRows
from bsm_core.evaluation.predictions import Predictions
from bsm_core.metrics.bootstrap import CONFIDENCE, RESAMPLES, SEED, Estimate
from bsm_core.metrics.measure import ClassMetrics, measure
from bsm_core.storage.objects import place
from bsm_core.tables.formats.dialect import Dialect


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

    Example:
        Print all metrics of a run, each with its interval::

            found = bsm_core.evaluate("predictions", "labels.csv", label_column="churned")
            for name, estimate in found.metrics.items():
                print(name, estimate.value, estimate.low, estimate.high)
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
    found = Predictions.open(place(predictions))
    rows = LabeledRows.read(
        found, place(labels), label_column=label_column, id_field=id_field, classes=classes, dialect=dialect
    )
    measured = measure(rows.probabilities, rows.labels, rows.names, resamples, SEED)
    return Evaluation(
        predictions=found.where,
        labels=str(labels),
        id_field=rows.id_field,
        label_column=rows.label_column,
        rows=len(rows.labels),
        joined=rows.joined,
        **measured._asdict(),
        resamples=resamples,
        confidence=CONFIDENCE,
        seed=SEED,
    )
