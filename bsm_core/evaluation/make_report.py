"""The report of a run, drawn from its output folder, with labels or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bsm_core.errors import UsageError
from bsm_core.evaluation.join_report import left_out_lines, repeated_lines, spelling_lines
from bsm_core.evaluation.label_join import Joined
from bsm_core.evaluation.labeled_rows import LabeledRows, checked
from bsm_core.evaluation.predictions import Predictions
from bsm_core.metrics.bootstrap import RESAMPLES
from bsm_core.metrics.labeled import Labeled
from bsm_core.report.binning import Binning, Scored
from bsm_core.report.record_check import why_unusable
from bsm_core.report.run_statistics import FORMAT, as_record
from bsm_core.report.statistics import Statistics
from bsm_core.scoring.comparing.prediction_rows import scored_windows
from bsm_core.scoring.output.markers import RECORD
from bsm_core.scoring.output.run_report import REPORT, check_report, subject_of, write_report
from bsm_core.tables.formats.dialect import Dialect

_PREDICTIONS_ALONE = (
    "{}, so this report shows what the predictions hold. Score with --run-record, or with --report FILE, to see texts, "
    "features, issues and times too."
)


@dataclass(frozen=True)
class Drawn:
    """A report that was drawn.

    Attributes:
        path: The page.
        notes: What is not known, and what became of labels that do not fit.
    """

    path: Path
    notes: Sequence[str]


def make_report(
    output: Path,
    *,
    labels: Path | None = None,
    label_column: str | None = None,
    id_field: str | None = None,
    classes: Sequence[object] | None = None,
    dialect: Dialect | None = None,
    resamples: int = RESAMPLES,
    to: Path | None = None,
) -> Drawn:
    """Draw the report of a run from its output folder.

    Args:
        output: Output folder of the run, also of shards that are not merged, or a prediction file.
        labels: Labels of the rows, joined on the id.
        label_column, id_field, classes, dialect, resamples: See :func:`bsm_core.evaluation.evaluate.evaluate`.
        to: The page. None: ``report.html`` in the output folder.

    Raises:
        BSMError: As :func:`bsm_core.evaluation.evaluate.evaluate` raises, or the page cannot be written.
    """
    from bsm_core.report.page.draw import draw  # here, because it imports jinja2

    if label_column and not labels:
        raise UsageError("--label-column without --labels", fix="give the labels file too")
    path = to or (output if output.is_dir() else output.parent) / REPORT
    check_report(path)
    found, notes, label_notes, labeled = Predictions.open(output), list[str](), list[str](), None
    record, why = found.record, _why_not(found)
    if why:
        record, notes = _counted(found, id_field), [_PREDICTIONS_ALONE.format(why)]
    if labels:
        rows = LabeledRows.read(
            found, labels, label_column=label_column, id_field=id_field, classes=classes, dialect=dialect
        )
        label_notes = _notes(rows.joined)
        labeled = Labeled.of(rows.probabilities, rows.labels, record["statistics"]["classes"], resamples=resamples)
    write_report(path, draw(record, subject=subject_of(record), notes=notes, labeled=labeled, label_notes=label_notes))
    return Drawn(path, [*notes, *label_notes])


def _why_not(found: Predictions) -> str:
    """Return why the report cannot be drawn from the run record; an empty text if it can."""
    statistics = found.record.get("statistics")
    if not found.is_whole or statistics is None:
        return f"There is no {RECORD} with statistics of all rows in the folder"
    if isinstance(statistics, dict) and statistics.get("format") != FORMAT:
        return f"{RECORD} has the statistics of another version of bsm"
    if why := why_unusable(found.record):
        return f"{RECORD} is damaged ({why})"
    classes, columns = len(found.record["statistics"]["classes"]), len(found.probability_columns())
    if classes != columns:
        return f"{RECORD} has {classes} classes and the predictions have {columns}"
    rows, recorded = found.rows(), found.record["rows"]
    return f"{RECORD} has {recorded:,} rows and the predictions have {rows:,}" if rows != recorded else ""


def _counted(found: Predictions, id_field: str | None) -> dict[str, Any]:
    """Return a run record with the statistics of a prediction file, which is read once, in constant memory."""
    names, id_field = found.probability_columns(), found.id_column(id_field)
    recorded, statistics = found.recorded_labels(len(names)), Statistics()
    for ids, read in scored_windows(found.read([id_field, *names]), id_field, names, found.where):
        probabilities = checked(read, ids, found.where, statistics.rows)
        window = Scored(statistics.rows, probabilities, name=partial(_some_of, ids))
        statistics.add(Binning().statistics(window))
    classes = recorded.names or recorded.labels or range(len(names))
    return {
        "rows": statistics.rows,
        "output": Path(found.where).name,
        "statistics": as_record(statistics, Binning(), classes, {}),
    }


def _some_of(ids: Sequence[str], rows: Sequence[int]) -> list[str]:
    return [ids[row] for row in rows]


def _notes(joined: Joined) -> list[str]:
    return [*left_out_lines(joined), *spelling_lines(joined), *repeated_lines(joined)]
