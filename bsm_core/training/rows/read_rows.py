"""The training rows and the validation rows of a job, labeled and split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bsm_core.errors import DataError
from bsm_core.preprocess.cells import Column
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.tables.data_files import SourceFormat
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.rows.data import Rows, read_columns
from bsm_core.training.rows.labels import class_indices, class_order


def read_rows(job: TrainingJob, data: Any, validation: Any) -> tuple[Rows, Rows | None, list[Any]]:
    """Return the training rows, the validation rows and the label of each class."""
    label, artifact = job.training.label_name, job.artifact
    columns, dialect, source = _read(job, data, _called(data, "data"))
    order = class_order(columns[label], label, artifact.num_classes, job.training.multiclass_categories)

    labels = class_indices(columns[label], label, order, _called(data, "data"))
    rows = Rows(columns, labels, dialect=dialect, source=source)
    if validation is None:
        rows, held_out = rows.split(job.training.validation_fraction, job.training.seed)
    else:
        called = _called(validation, "validation")
        columns, dialect, source = _read(job, validation, called)
        labels = class_indices(columns[label], label, order, called)
        held_out = Rows(columns, labels, dialect=dialect, source=source)
    if held_out and job.training.monitor == "auroc" and not held_out.labels.bincount(minlength=len(order)).all():
        raise DataError(
            "AUROC cannot be computed to choose the best epoch: some classes have no validation rows",
            where="config.monitor",
            fix="give more validation rows, or set monitor to 'log_loss'",
        )
    return rows, held_out, order


def _read(job: TrainingJob, data: Any, called: str) -> tuple[dict[str, Column], Dialect, SourceFormat | None]:
    """Return the columns of a table, the label among them, the spelling of numbers in their text, and its format."""
    config, label = job.artifact, job.training.label_name
    wanted = {label: "config.label_name"} | Preprocessor(config, {}, {}, {}).wanted
    columns, source = read_columns(data, wanted, called, Dialect.of_config(config.as_mapping()))
    preprocess = Preprocessor(config, {}, {}, {}, source=source)
    return {**preprocess.as_read(columns), label: columns[label]}, preprocess.dialect, source.format if source else None


def _called(data: Any, name: str) -> str:
    return str(data) if isinstance(data, str | Path) else name
