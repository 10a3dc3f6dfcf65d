"""The report of a run: written at its end, or drawn later from its output folder, with labels or without."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import DataError, UsageError
from bsm_core.report.binning import Binning, Scored
from bsm_core.report.run_statistics import FORMAT, as_record
from bsm_core.report.statistics import FloatArray, Statistics
from bsm_core.runtime import durable
from bsm_core.runtime.durable import writing
from bsm_core.scoring.output.markers import FAILURE, PREDICTIONS, RECORD, SUCCESS
from bsm_core.tables.cell_values import cell_values, value_text
from bsm_core.tables.data_files import FORMATS
from bsm_core.tables.formats.plain_values import holds_text
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    from bsm_core.report.measures import Measured

REPORT = "report.html"
"""Name of the report in the output folder, if no other is given."""
_NO_STATISTICS = (
    f"There is no {RECORD} with statistics in the folder, so this report shows what the prediction file holds. Score "
    "with --run-record, or with --report FILE, to see texts, features, issues and times too."
)
_PROBABILITY = "prob_class_"
_ROWS = 16_384


def check_report(path: Path) -> None:
    """Check that a report can be written, long before it is.

    Raises:
        SinkError: It cannot.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not os.access(path.parent, os.W_OK) and path.parent.exists():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def write_report(path: Path, page: str) -> None:
    """Write a report, completely or not at all.

    Raises:
        SinkError: It cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, page)


def page_of_run(record: Mapping[str, Any]) -> str:
    """Return the page of a run record."""
    from bsm_core.report.page.draw import draw  # here, because a run needs it at its end, if at all

    return draw(record, subject=subject_of(record))


def subject_of(record: Mapping[str, Any]) -> str:
    """Return the line that says what was scored, and by what."""
    settings = record.get("settings") or {}
    model = next((each["name"] for each in record.get("components") or () if each["kind"] == "model_class"), "")
    parts = [settings.get("data_dir", ""), model, str(record.get("finished", ""))[:16].replace("T", " ")]
    return " · ".join(part for part in parts if part)


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
    output: Path, *, labels: Path | None = None, label_column: str | None = None, to: Path | None = None
) -> Drawn:
    """Draw the report of a run from its output folder.

    Args:
        output: Output folder of the run, or its prediction file.
        labels: Labels of the rows, joined on the id.
        label_column: Column of the labels.
        to: The page. None: ``report.html`` in the output folder.

    Raises:
        UsageError: There are no predictions, or the run has not succeeded.
        DataError: A file cannot be read, or no label belongs to a row.
        MissingColumnsError: The labels file has no column of ids or labels.
        SinkError: The page cannot be written.
    """
    from bsm_core.report.page.draw import draw

    folder = output if output.is_dir() else output.parent
    if label_column and not labels:
        raise UsageError("--label-column without --labels", fix="give the labels file too")
    record, notes = _record_of(output), list[str]()
    measured, label_notes = None, list[str]()
    if record is None or labels:
        measured, label_notes, made = _read(_predictions_in(output), labels, label_column, record)
        if record is None:
            record, notes = made, [_NO_STATISTICS]
    path, subject = to or folder / REPORT, subject_of(record)
    write_report(path, draw(record, subject=subject, notes=notes, measured=measured, label_notes=label_notes))
    return Drawn(path, [*notes, *label_notes])


def _record_of(output: Path) -> dict[str, Any] | None:
    """Return the run record of an output folder, if it has statistics."""
    if not output.exists():
        raise UsageError("there is no such folder", where=str(output), fix="give the output folder of a run")
    if not output.is_dir():
        return None
    if not (output / SUCCESS).exists() and (output / FAILURE).exists():
        said = (output / FAILURE).read_text(encoding="utf-8", errors="replace").strip()
        raise UsageError(f"the run in this folder failed: {said}", where=str(output), fix="run it again")
    try:
        record = json.loads((output / RECORD).read_bytes())
        is_known = record["statistics"]["format"] == FORMAT
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        is_known = False
    return record if is_known else None


def _predictions_in(output: Path) -> Path:
    if not output.is_dir():
        return output
    found = [path for format in FORMATS if (path := output / f"{PREDICTIONS}.{format}").exists()]
    if not found:
        fix = "give the output folder of a run; if it has shards, run bsm merge first"
        raise UsageError("there is no prediction file in this folder", where=str(output), fix=fix)
    return found[0]


def _read(
    path: Path, labels: Path | None, label_column: str | None, record: Mapping[str, Any] | None
) -> tuple[Measured | None, list[str], dict[str, Any]]:
    """Read a prediction file once, in constant memory.

    Returns:
        Counts of the labeled rows, what became of the labels, and a run record; its statistics are empty where the run
        has recorded them.
    """
    from bsm_core.report.labels import Labels
    from bsm_core.report.measures import Measured

    source = TableSource.open(path, partitions=False)
    names = [name for name in source.columns if name.startswith(_PROBABILITY)]
    if not names:
        raise DataError(f"no column {_PROBABILITY}0: this is no prediction file", where=str(path), fix="name another")
    id_column = ((record or {}).get("settings") or {}).get("id_field") or source.columns[0]
    joined, measured = None, None
    if labels:
        known = record["statistics"] if record else {}
        numbers = known.get("labels") or [str(index) for index in range(len(names))]
        accepted = [[*pair] for pair in zip(numbers, known.get("classes") or numbers, strict=True)]
        joined = Labels(labels, id_column, label_column, accepted, known.get("label_column") or "")
        measured = Measured(len(names))
    statistics, rows = Statistics(), 0
    with closing(source.windows([id_column, *names], rows=_ROWS)) as windows:
        for window in windows:
            table = window.table
            probabilities = _probabilities(table, names, path)
            if joined is not None and measured is not None:
                measured.add(probabilities, joined.of(table.column(0)))
            if record is None:
                statistics.add(Binning().statistics(Scored(rows, probabilities, name=_names_of(table))))
            rows += len(table)
    notes = joined.join.remarks() if joined else []
    if joined and not joined.join.joined:
        raise DataError(
            "no id of the labels file is an id of the predictions",
            where=str(labels),
            details=[f"the ids are compared as text, in column {id_column!r}: '007' is not '7'", *notes],
            fix="write the ids in the labels file as they are in the data",
        )
    made = {"rows": rows, "output": path.name, "statistics": as_record(statistics, Binning(), {}, len(names), {})}
    return measured, notes, made


def _probabilities(table: pa.Table, names: Sequence[str], path: Path) -> FloatArray:
    """Return the probabilities, float64 ``[rows, classes]``; NaN for an empty one."""
    columns = []
    for name in names:
        column = table.column(name)
        try:
            if holds_text(column.type):
                column = column.cast(pa.large_string())
                column = pc.if_else(pc.equal(column, ""), None, column)
            columns.append(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid as error:
            what = f"column {name!r} holds what is no probability: {error}"
            raise DataError(what, where=str(path), fix="give the prediction file as the run has written it") from error
    return np.column_stack(columns)


def _names_of(table: pa.Table) -> Any:
    def names(rows: Sequence[int]) -> list[str]:
        values = cell_values(table.column(0).take(pa.array(rows, pa.int64())))
        return [v.decode(errors="backslashreplace") if isinstance(v, bytes) else value_text(v) for v in values]

    return names
