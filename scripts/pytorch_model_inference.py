#!/usr/bin/env python3
"""The script of the inference contract, for a SageMaker-style processing container.

As a script it does the same as ``python -m bsm_core.run``. As a module it offers the contract's functions, for
notebooks and tests. They hold a whole table in memory; a run does not.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bsm_core.run import main

if __name__ == "__main__":  # before the imports below, which take seconds: wrong flags and signals do not wait for them
    sys.exit(main(needs_job_type=True))

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from bsm_core import ArtifactConfig, Batch, BSMDataset, ModelBase, ModelConfig, Pipeline, Predictor, Settings
from bsm_core.artifact import Artifact, unpacked
from bsm_core.backends.choose import choose_backends
from bsm_core.errors import DataError
from bsm_core.predictor.probability_columns import with_probabilities
from bsm_core.preprocess.columns import as_numbers
from bsm_core.preprocess.dataset import Sample, collate
from bsm_core.preprocess.findings import IssueWarnings, warn_of_counts
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.runtime.durable import writing
from bsm_core.scoring import job
from bsm_core.scoring.engines.devices import DevicePlan, plan_devices
from bsm_core.scoring.engines.trainer import quiet, trainer
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.markers import PREDICTIONS, Markers
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.data_files import detect_format, output_format, source_format
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import TableWriter

__all__ = [
    "_detect_file_format",
    "apply_preprocessing_artifacts",
    "bsm_collate_batch",
    "create_bsm_dataset",
    "create_dataloader",
    "create_health_check_file",
    "data_preprocess_pipeline",
    "generate_predictions",
    "is_main_process",
    "load_dataframe_with_format",
    "load_model_artifacts",
    "model_inference",
    "run_batch_inference",
    "save_dataframe_with_format",
    "save_predictions",
    "setup_device_environment",
]

log = logging.getLogger("bsm")
Processors = dict[str, dict[str, Any]]


def load_model_artifacts(model_dir: str | Path) -> tuple[ModelBase, dict[str, Any], Any, Processors]:
    """Load an artifact from a folder with its files or with its ``model.tar.gz``.

    Returns:
        The model in evaluation mode; the merged config; the tokenizer, None if the model reads no text; and a dict with
        the ``"numerical_processors"`` and ``"risk_processors"`` by feature.
    """
    with unpacked(Path(model_dir)) as folder:
        artifact = Artifact.load(folder)
        predictor = Predictor.load(artifact)
        fields = artifact.config.text_fields
        tokenizer = artifact.tokenizer(fields[0]) if fields else None
    processors: Processors = {
        "numerical_processors": predictor.preprocessor.imputers,
        "risk_processors": predictor.preprocessor.risk_tables,
    }
    return predictor.model, artifact.raw_config, tokenizer, processors


def _detect_file_format(file_path: str | Path) -> str:
    """Return the format in which a file's data is saved: ``"csv"``, ``"tsv"`` or ``"parquet"``; CSV for JSON lines.

    The name of the file says it. A file without an extension, as Spark writes it, is looked at.
    """
    return output_format(source_format(Path(file_path)))


def load_dataframe_with_format(file_path: str | Path) -> tuple[pd.DataFrame, str]:
    """Return a file as a DataFrame, and its format.

    In CSV, TSV and JSON lines, a column of numbers becomes int64, Int64 (with missing numbers) or float64. All other
    cells stay text, as does the id, byte for byte. The id is the column that the variable ``ID_FIELD`` names. Without
    the variable, it may be any column: those whose names end in ``id``, and those with a cell such as ``007`` or
    ``1e5``, stay text.
    """
    table, source = _read(Path(file_path))
    format = source.output_format
    if format != "parquet":
        table = pa.table({name: _decoded(table, name, file_path) for name in table.column_names})
    unions = [field.name for field in table.schema if pa.types.is_union(field.type)]  # of files with different types
    frame = table.drop_columns(unions).to_pandas(integer_object_nulls=True)  # floats would change large ids
    for name in unions:
        values = pd.Series(cell_values(table.column(name)), dtype=object)
        frame.insert(table.column_names.index(name), name, values)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count and not _is_id(name):
            nullable = pd.Series(dtype=column.type.to_pandas_dtype()).convert_dtypes().dtype
            frame[name] = frame[name].astype(nullable)
    return frame, format


def save_dataframe_with_format(df: pd.DataFrame, output_path: str | Path, format_str: str) -> Path:
    """Write a DataFrame to ``output_path`` with the extension of the format, and return that path.

    The folder of the file is created if it does not exist.
    """
    path = Path(output_path).with_suffix(f".{format_str}")
    format = detect_format(path)
    table = pa.Table.from_pandas(df, preserve_index=False)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with TableWriter(path, table.schema, format) as writer:
            writer.write(table)
    return path


def data_preprocess_pipeline(config: Mapping[str, Any], tokenizer: Any) -> tuple[Any, dict[str, Pipeline]]:
    """Return the tokenizer, and the checked pipeline of each text field by column."""
    return tokenizer, text_pipelines(_checked(config), lambda field: tokenizer)


def create_bsm_dataset(config: Mapping[str, Any], inference_data_dir: str | Path, filename: str) -> BSMDataset:
    """Return the dataset of one file, with missing categories filled. No label is needed."""
    table, source = _read(Path(inference_data_dir) / filename, Dialect.of_config(config))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    dataset = BSMDataset(columns, table.num_rows, _checked(config), source)
    dataset.fill_missing_value(label_name=None, column_cat_name=config.get("cat_field_list") or [])
    return dataset


def apply_preprocessing_artifacts(bsm_dataset: BSMDataset, processors: Processors, config: Mapping[str, Any]) -> None:
    """Add imputation, then risk tables, to the dataset; text fields have no risk tables."""
    text_columns = {field.column for field in _checked(config).text_fields}
    for kind in ("numerical_processors", "risk_processors"):
        for feature, processor in processors[kind].items():
            if feature in bsm_dataset.columns and feature not in text_columns:
                bsm_dataset.add_pipeline(feature, processor)


def create_dataloader(bsm_dataset: BSMDataset, config: Mapping[str, Any]) -> DataLoader[Batch]:
    """Return a loader of the dataset's rows, in order, ``batch_size`` of the config (by default 32) at a time."""
    _, findings = bsm_dataset.to_batch()
    IssueWarnings().add(findings)
    source = bsm_dataset.source
    warn_of_counts(findings.counts(), len(bsm_dataset), source.format if source else None)
    size = _checked(config).batch_size or ModelConfig.model_fields["batch_size"].default
    return DataLoader(bsm_dataset, batch_size=size, shuffle=False, collate_fn=bsm_collate_batch)


def bsm_collate_batch(samples: Sequence[Sample]) -> Batch:
    """Return the batch of some rows of a dataset, such as ``[dataset[0], dataset[1]]``, for the model."""
    return collate(samples)


def setup_device_environment(device: str | int | Sequence[int]) -> tuple[str | int | list[int], str]:
    """Return the devices for a value of ``DEVICE``, and the accelerator; fall back to fewer GPUs, then to the CPU."""
    settings, plan = _devices(device, "auto")
    if plan.accelerator == "cpu":
        return "cpu", "cpu"
    torch.backends.cudnn.benchmark = True
    for gpu in plan.ids:
        properties = torch.cuda.get_device_properties(gpu)
        log.info("GPU %d: %s, %.1f GiB", gpu, properties.name, properties.total_memory / 2**30)
    return (list(plan.ids) if isinstance(settings.device, tuple) else plan.count), "gpu"


def model_inference(
    model: ModelBase,
    dataloader: DataLoader[Batch],
    accelerator: str = "auto",
    device: str | int | Sequence[int] = "auto",
    model_log_path: str | Path | None = None,
) -> tuple[np.ndarray, None]:
    """Predict with Lightning's Trainer, on the first of the devices.

    Only one device is used, because the data is in the memory of this process. :func:`run_batch_inference` uses all
    devices.

    Args:
        model: The model.
        dataloader: The rows, from :func:`create_dataloader`.
        accelerator, device: Values of ``ACCELERATOR`` and ``DEVICE``, with the fall-backs of
            :func:`setup_device_environment`.
        model_log_path: Accepted as the contract has it. Inference logs nothing there.

    Returns:
        Class probabilities, float64 ``[n_samples, n_classes]``; and None in the place of labels, which are not read.
    """
    _, plan = _devices(device, accelerator)
    at_start = LambdaCallback(on_predict_start=lambda trainer, model: choose_backends(model))
    outputs = [torch.empty(0, model.config.num_classes, dtype=torch.float64)]
    with quiet():
        if len(dataloader):
            outputs += trainer(DevicePlan(plan.accelerator, plan.ids[:1]), [at_start]).predict(model, dataloader)
    return torch.cat([each.cpu() for each in outputs]).numpy(), None


def generate_predictions(
    model: ModelBase, dataloader: DataLoader[Batch], device: str | int | list[int], accelerator: str
) -> np.ndarray:
    """Return class probabilities, float64 ``[n_samples, n_classes]``; see :func:`model_inference`."""
    return model_inference(model, dataloader, accelerator=accelerator, device=device)[0]


def is_main_process() -> bool:
    """Return whether this process is the first of those that torchrun, SLURM or Lightning started: it writes."""
    return rank_zero_only.rank in (None, 0)


def save_predictions(
    ids: Sequence[Any], y_prob: np.ndarray, id_col: str, output_dir: str | Path, input_format: str
) -> None:
    """Write ids and probabilities to ``inference_predictions.<format>``, and remove the markers of an earlier run."""
    format = detect_format(f"{PREDICTIONS}.{input_format}")
    table = with_probabilities(pa.table({id_col: pa.array(ids)}), y_prob)
    folder = Path(output_dir)
    sink = Sink(folder)
    with holding(sink.work.lock), writing(folder):
        Markers(folder).clear()
        log.info("predictions: %s", sink.write([table], table.schema, format))


def create_health_check_file(output_dir: str | Path) -> None:
    """Write ``_HEALTH`` and, last, ``_SUCCESS``."""
    with writing(Path(output_dir)):
        Markers(Path(output_dir)).succeed()


def run_batch_inference(environ: Mapping[str, str] | None = None, **settings: Any) -> None:
    """Run the whole job, in windows and on all devices.

    Args:
        environ: Environment variables of the contract, such as ``{"ID_FIELD": "customer_id"}``.
        settings: Fields of :class:`bsm_core.Settings`, such as ``job_type`` and ``data_dir``.

    Raises:
        BSMError: The run failed; the output folder holds ``_FAILURE``.
    """
    job.run(settings, environ or {})


def _read(path: Path, dialect: Dialect | None = None) -> tuple[pa.Table, TableSource]:
    source = TableSource.open(path, dialect=dialect)
    source.require(dict.fromkeys(source.columns, "the reader"))  # a DataFrame would confuse two columns of one name
    return pa.concat_tables([window.table for window in source.windows(source.columns)]), source


def _decoded(table: pa.Table, column: str, path: str | Path) -> pa.ChunkedArray:
    """Return a column of a text file as numbers or text."""
    try:
        text = table.column(column).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(f"column {column!r} is not UTF-8", where=str(path), fix="save the file as UTF-8") from error
    return text if _is_id(column) else as_numbers(text, may_be_id=not os.environ.get("ID_FIELD"))


def _is_id(name: str) -> bool:
    """Return whether a column is the id or, if the environment does not name the id, may be it by its name."""
    id_field = os.environ.get("ID_FIELD")
    return name == id_field if id_field else re.fullmatch(r"(.*[^A-Za-z])?[iI][dD]|.*[a-z]I[dD]", name) is not None


def _devices(device: str | int | Sequence[int], accelerator: str) -> tuple[Settings, DevicePlan]:
    settings = Settings.resolve({"job_type": "inference", "device": device, "accelerator": accelerator}, {})
    plan = plan_devices(settings, torch.cuda.device_count())
    if plan.warning:
        log.warning("%s", plan.warning)
    return settings, plan


def _checked(config: Mapping[str, Any]) -> ArtifactConfig:
    return ArtifactConfig.from_mapping(config, where="config")
