#!/usr/bin/env python3
"""The script of the inference contract, for a SageMaker-style processing container.

As a script it does the same as ``python -m bsm_core.run``. As a module it offers the contract's functions, for
notebooks and tests. They hold a whole table in memory; a run does not.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.utils.data import DataLoader

from bsm_core import ArtifactConfig, Batch, BSMDataset, ModelBase, Pipeline, Predictor, Settings
from bsm_core.artifact import Artifact, unpacked
from bsm_core.backends.choose import choose_backends
from bsm_core.errors import DataError
from bsm_core.predictor.probability_columns import with_probabilities
from bsm_core.preprocess.findings import IssueWarnings, warn_of_counts
from bsm_core.preprocess.pipeline import text_pipelines
from bsm_core.run import main
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
    """Return a file as a DataFrame, and its format. Cells from CSV and TSV stay text, so that no id is changed."""
    table, source = _read(Path(file_path))
    format = source.output_format
    if format != "parquet":
        table = pa.table({name: _decoded(table, name, file_path) for name in table.column_names})
    unions = [field.name for field in table.schema if pa.types.is_union(field.type)]  # of files with different types
    frame = table.drop_columns(unions).to_pandas(integer_object_nulls=True)  # floats would change large ids
    for name in unions:
        values = pd.Series(cell_values(table.column(name)), dtype=object)
        frame.insert(table.column_names.index(name), name, values)
    return frame, format


def save_dataframe_with_format(df: pd.DataFrame, output_path: str | Path, format_str: str) -> Path:
    """Write a DataFrame to ``output_path`` with the extension of the format, and return that path."""
    path = Path(output_path).with_suffix(f".{format_str}")
    table = pa.Table.from_pandas(df, preserve_index=False)
    with TableWriter(path, table.schema, detect_format(path)) as writer:
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
    """Return a loader of the dataset as one ragged batch. The model splits it by its token budget, ``batch_size``."""
    batch, findings = bsm_dataset.to_batch()
    IssueWarnings().add(findings)
    source = bsm_dataset.source
    warn_of_counts(findings.counts(), len(bsm_dataset), source.format if source else None)
    return DataLoader([batch], batch_size=None, shuffle=False)  # type: ignore[arg-type]


def setup_device_environment(device: str | int | Sequence[int]) -> tuple[str | int | list[int], str]:
    """Return the devices for a value of ``DEVICE``, and the accelerator; fall back to fewer GPUs, then to the CPU."""
    settings = Settings.resolve({"job_type": "inference", "device": device}, {})
    plan = plan_devices(settings, torch.cuda.device_count())
    if plan.warning:
        log.warning("%s", plan.warning)
    if plan.accelerator == "cpu":
        return "cpu", "cpu"
    torch.backends.cudnn.benchmark = True
    for gpu in plan.ids:
        properties = torch.cuda.get_device_properties(gpu)
        log.info("GPU %d: %s, %.1f GiB", gpu, properties.name, properties.total_memory / 2**30)
    return (list(plan.ids) if isinstance(settings.device, tuple) else plan.count), "gpu"


def generate_predictions(
    model: ModelBase, dataloader: DataLoader[Batch], device: str | int | list[int], accelerator: str
) -> np.ndarray:
    """Return class probabilities, float64 ``[n_samples, n_classes]``.

    Only the first device is used, because the data is in the memory of this process. :func:`run_batch_inference` uses
    all devices.
    """
    first = device[0] if isinstance(device, list) else 0
    at_start = LambdaCallback(on_predict_start=lambda trainer, model: choose_backends(model))
    with quiet():
        outputs = trainer(DevicePlan(accelerator, (first,)), [at_start]).predict(model, dataloader)
    return torch.cat(outputs).cpu().numpy()  # type: ignore[arg-type]


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
    try:
        return table.column(column).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(f"column {column!r} is not UTF-8", where=str(path), fix="save the file as UTF-8") from error


def _checked(config: Mapping[str, Any]) -> ArtifactConfig:
    return ArtifactConfig.from_mapping(config, where="config")


if __name__ == "__main__":
    sys.exit(main())
