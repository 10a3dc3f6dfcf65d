"""The training rows and the validation rows of a job, labeled and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bsm_core.errors import DataError
from bsm_core.metrics.names import OF_EVERY_CLASS, title_of
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.findings import Findings, IssueWarnings
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.rows.data import ReadColumns, Rows, read_columns
from bsm_core.training.rows.labels import class_indices, class_order
from bsm_core.training.rows.log_lines import BAD_LINES, WITHOUT_LABEL, tell_left_out


def read_rows(job: TrainingJob, data: Any, validation: Any) -> tuple[Rows, Rows | None, list[Any]]:
    """Return the rows of the two tables, None for a table that was not given, and the label of each class.

    Raises:
        MissingColumnsError: Columns are missing.
        DataError: A file or a label cannot be used, or no rows are left.
    """
    label, training = job.training.label_name, job.training
    called = _called(data, "data")
    read = _read(job, data, called)
    order = class_order(
        read.columns[label], label, job.artifact.num_classes, training.multiclass_categories, training.positive_class
    )
    rows = _labeled(job, read, order, called)
    if validation is None:
        return rows, None, order
    called = _called(validation, "validation")
    return rows, _labeled(job, _read(job, validation, called), order, called), order


def divide(job: TrainingJob, rows: Rows, given: Rows | None, order: list[Any]) -> tuple[Rows, Rows | None]:
    """Return the training rows and the validation rows.

    Args:
        job: The training job.
        rows: Rows of the table.
        given: Rows of the table for validation; None: a share of ``rows`` is used for this, and not for training.
        order: Label of each class.

    Raises:
        DataError: The metric that chooses the best epoch is not defined for the validation rows, because all have one
            class. Of three classes or more, it is the mean over those that have rows.
    """
    held_out = given
    if given is None:
        rows, held_out = rows.split(job.training.validation_fraction, job.training.seed)
    monitor = job.training.monitor
    if held_out and monitor in OF_EVERY_CLASS and len(found := set(held_out.labels.tolist())) < 2:
        raise DataError(
            f"{title_of(monitor)} cannot be computed to choose the best epoch: all {len(held_out):,} validation rows "
            f"have the label {order[found.pop()]!r}",
            where="config.monitor",
            fix="give more validation rows, or set monitor to 'log_loss'",
        )
    return rows, held_out


def _read(job: TrainingJob, data: Any, called: str) -> ReadColumns:
    """Return the columns of a table that the job reads, the label among them."""
    config, label = job.artifact, job.training.label_name
    wanted = {label: "config.label_name"} | Preprocessor(config, {}, {}, {}).wanted
    dialect = Dialect.of_config(config.as_mapping())
    return read_columns(data, wanted, called, dialect, job.training.on_bad_line)


def _labeled(job: TrainingJob, read: ReadColumns, order: list[Any], called: str) -> Rows:
    """Return the rows of a table that can be used, and tell how many cannot, and why."""
    label, source = job.training.label_name, read.source
    may_lack = job.training.on_missing_label == "skip"
    labels = class_indices(read.columns[label], label, order, called, may_lack=may_lack)
    preprocess = Preprocessor(job.artifact, {}, {}, {}, source=source)
    columns = {**preprocess.as_read(read.columns), label: read.columns[label]}
    missing = (labels < 0).nonzero().flatten().tolist()
    if len(missing) == len(labels):
        fix = "give rows with labels, or set label_name to another column"
        raise DataError("no row has a label", where=f"{called}, column {label!r}", fix=fix)
    reasons = {WITHOUT_LABEL: len(missing), BAD_LINES: len(read.bad_lines)}
    left_out = {reason: count for reason, count in reasons.items() if count}
    source_format = source.format if source else None
    rows = Rows(columns, labels, dialect=preprocess.dialect, source=source_format, left_out=left_out)
    if missing:
        rows = rows.take((labels >= 0).nonzero().flatten().tolist())
    IssueWarnings().add(Findings(bad_lines=read.bad_lines))
    if left_out:
        tell_left_out(rows, missing, called)
    return rows


def _called(data: Any, name: str) -> str:
    return str(data) if isinstance(data, str | Path) else name
