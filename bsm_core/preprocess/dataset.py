"""From the columns of a table to a batch: ``Preprocessor`` for windows, ``BSMDataset`` for a whole table."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex, TypeAlias

import pyarrow as pa
import torch
from torch.utils.data import Dataset

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.features.feature_scaling import FeatureScaling
from bsm_core.errors import UsageError
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.preprocess.cell_reasons import text_of
from bsm_core.preprocess.cells import Column, values_at
from bsm_core.preprocess.columns import as_pandas_reads, text_values
from bsm_core.preprocess.features import Features, Imputer, RiskTable, processors
from bsm_core.preprocess.findings import ESCAPES, LOOSE_QUOTES, READ, Findings, Issue, in_order
from bsm_core.preprocess.pipeline import Pipeline
from bsm_core.runtime.memory import DEFAULT_MAX_CELL_MB
from bsm_core.runtime.profile import FEATURES, Times
from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.data_files import DELIMITERS
from bsm_core.tables.formats.column_types import require_columns
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Position, Window


@dataclass(frozen=True)
class WindowInfo:
    """Data of a window that its batch carries from the table to the output.

    Attributes:
        index, start, last, fraction, end, files: See :class:`bsm_core.tables.windows.Window`.
        kept: The id column and the other kept columns, unchanged.
        findings: Faults of the window's rows.
        times: Time that reading and preparing the window took.
    """

    index: int
    start: int
    last: bool
    fraction: float
    kept: pa.Table
    findings: Findings
    times: Times = field(default_factory=Times)
    end: Position | None = None
    files: Sequence[tuple[int, int]] = ()

    def names(self, rows: Sequence[int]) -> list[Any]:
        """Return the names of rows for errors: ids or, if no column is kept, positions in the whole table."""
        if not self.kept.num_columns:
            return [self.start + row for row in rows]
        ids = cell_values(rows_at(self.kept.column(0), pa.array(rows, pa.int64())))
        return [value.decode(errors="backslashreplace") if isinstance(value, bytes) else value for value in ids]


def wanted_columns(config: ArtifactConfig) -> dict[str, str]:
    """Return the columns that a model needs, each with the config key that names it."""
    wanted = {text.column: f"config.{text.key}" for text in config.text_fields}
    return {**dict.fromkeys(config.tab_field_list, "config.tab_field_list"), **wanted}


class Preprocessor:
    """Processor that turns windows into batches. A pickled preprocessor has no steps: a loader worker builds its own.

    Args:
        config: The artifact's config.
        pipelines: Pipeline of each text column.
        impute: Imputation value by feature. Not used if the config's ``compat`` is ``"original"``: the scripts of the
            original project replace missing numbers by -1 before they look for an imputation value.
        risk_tables: Risk table by feature, as ``{"bins": {category: risk}, "default_bin": risk}``. A risk table of a
            text column is ignored.
        keep: Columns that the batch carries unchanged, the id first.
        max_cell_mb: Length of a text, in millions of bytes, at which it is cut.
        source: Table of the rows, whose dialect says how numbers in text are spelled. None: no file, and the dialect of
            the artifact's config.
        scaling: Scaling of the features. None: they are the inputs of the model as they are.
        embeds: Whether the batches of windows ask for :attr:`~bsm_core.Batch.vectors`.

    Raises:
        ConfigError: The config's keys ``csv_*`` cannot be used.
    """

    def __init__(
        self,
        config: ArtifactConfig,
        pipelines: Mapping[str, Pipeline],
        impute: Mapping[str, float],
        risk_tables: Mapping[str, Mapping[str, Any]],
        keep: Sequence[str] = (),
        max_cell_mb: int = DEFAULT_MAX_CELL_MB,
        source: TableSource | None = None,
        scaling: FeatureScaling | None = None,
        embeds: bool = False,
    ) -> None:
        self.config = config
        self.embeds = embeds
        self._read_as(source)
        self.pipelines = dict(pipelines)
        tabular = risk_tables.keys() - {text.column for text in config.text_fields}
        tables = {name: table for name, table in risk_tables.items() if name in tabular}
        self.imputers, self.risk_tables = processors(impute, tables, scaling or FeatureScaling())
        self.keep = tuple(keep)
        self.max_cell_mb = max_cell_mb
        imputers = {} if config.compat == "original" else self.imputers
        self.features = Features(config.tab_field_list, imputers, self.risk_tables, config.largest_magnitudes)

    def _read_as(self, source: TableSource | None) -> None:
        self.dialect = source.dialect if source else Dialect.of_config(self.config.as_mapping())
        self._na_is_missing = self.config.compat == "original" and source is not None and source.format in DELIMITERS

    def of_table(self, source: TableSource, keep: Sequence[str]) -> Preprocessor:
        """Return this preprocessor for the rows of another table; it has the same pipelines.

        Args:
            source, keep: See :class:`Preprocessor`.
        """
        other = copy.copy(self)
        other.keep = tuple(keep)
        other._read_as(source)
        return other

    @property
    def wanted(self) -> dict[str, str]:
        """See :func:`wanted_columns`."""
        return wanted_columns(self.config)

    def as_read(self, columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """Return columns of the source; with ``compat: original``, cells that its scripts read as missing are null."""
        if not self._na_is_missing:
            return columns
        return {**columns, **{name: as_pandas_reads(columns[name]) for name in self.wanted}}

    def batch(
        self,
        columns: Mapping[str, Column],
        rows: int,
        times: Times | None = None,
        dialect: Dialect | None = None,
    ) -> tuple[Batch, Findings]:
        """Turn columns into a batch, one column at a time: first the text columns, then the features.

        Args:
            columns: Columns by name, from :meth:`as_read`.
            rows: Number of rows.
            times: Object to which the time of each step is added.
            dialect: Spelling of numbers in text. None: that of the preprocessor.

        Returns:
            The batch, and the findings of its rows.
        """
        times = Times() if times is None else times
        texts: dict[str, TextBatch] = {}
        issues: list[Issue] = []
        seen: dict[str, int] = {}
        for column, pipeline in self.pipelines.items():
            with times.of(f"{column}: reading"):
                values, bad = text_values(columns[column], self.max_cell_mb)
            tokens, failed = pipeline(values, times)
            with times.of(f"{column}: distinct chunks"):
                texts[column] = TextBatch.from_rows(tokens)
            cells = zip(bad.items(), values_at(columns[column], list(bad)), strict=True)
            issues += [Issue.of(row, column, READ, reason, value) for (row, reason), value in cells]
            issues += failed
            # Blank texts too. A bad cell has an issue; its text is empty or was cut.
            empty = {row for row, value in enumerate(values) if not value or value.isspace()}
            if missing := len(empty - bad.keys()):
                seen[f"missing:{column}"] = missing
        with times.of(FEATURES):
            matrix, found, unscaled = self.features.transform(columns, rows, dialect or self.dialect)
        named = {(issue.row, issue.column) for issue in issues}  # a cell of a text and a feature has one issue
        issues += [issue for issue in found.issues if (issue.row, issue.column) not in named]
        batch = Batch(
            rows,
            texts,
            torch.from_numpy(matrix),
            feature_names=self.features.input_names,
            unscaled=None if unscaled is None else torch.from_numpy(unscaled),
        )
        return batch, replace(found, issues=in_order(issues), seen={**seen, **found.seen})

    def __call__(self, window: Window, times: Times | None = None) -> Batch:
        """Return the batch of a window, with its :class:`WindowInfo`.

        Args:
            window: The window.
            times: Time that reading the window took. The time of each step is added to it.
        """
        table, times = window.table, Times() if times is None else times
        columns = dict(zip(table.column_names, table.columns, strict=True))
        batch, findings = self.batch(self.as_read(columns), table.num_rows, times)
        odd = {ESCAPES: window.escapes, LOOSE_QUOTES: window.loose_quotes}
        seen = {**findings.seen, **{key: count for key, count in odd.items() if count}}
        findings = replace(findings, bad_lines=window.bad_lines, seen=seen)
        kept = table.select(self.keep)
        places = window.index, window.start, window.last, window.fraction
        info = WindowInfo(*places, kept, findings, times, window.end, window.files)
        return replace(batch, window=info, vectors={} if self.embeds else None)


class Sample(dict[str, Any]):
    """Row of a :class:`BSMDataset`: the value of each column by its name, after the processor of the column.

    Values of columns that have no processor are as in the table.

    Args:
        values: A tokenized text is a list of chunks. A chunk is a dict with two lists, the token ids and the attention
            mask, by the config's ``text_input_ids_key`` and ``text_attention_mask_key``. A feature is a float.
        text_features: Values of the features whose columns are text fields too.
        config: The artifact's config.
        row: Position of the row in the dataset, from 0.
        inputs: If features are scaled, the names of the inputs of the model, and their values, float32 ``[inputs]``.
            None: the features are the inputs.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        text_features: Mapping[str, float],
        config: ArtifactConfig,
        row: int,
        inputs: tuple[Sequence[str], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(values)
        self.inputs = inputs
        self.text_features = text_features
        self.config = config
        self.row = row


_Values: TypeAlias = tuple[Mapping[str, list[list[dict[str, list[int]]]]], Mapping[str, list[float]]]
"""Chunks of each row by text column, and the value of each row by feature."""


class BSMDataset(Dataset[Sample]):
    """Rows of a table, and the processors of its columns: the dataset of the inference contract.

    ``len(dataset)`` is the number of rows, ``dataset[0]`` the first row as a :class:`Sample`, and ``"age" in dataset``
    says whether the table has the column. The processors run once for all rows, when the first row is needed.

    Args:
        columns: Columns of the table by name: Arrow arrays, or sequences of Python objects.
        rows: Number of rows.
        config: The artifact's config.
        source: Table of the columns; None if they are from no file.

    Example:
        Make a dataset of two rows::

            values = {"model_class": "tabular", "tab_field_list": ["age"]}
            config = ArtifactConfig.from_mapping(values, where="my config")
            dataset = BSMDataset({"age": ["33", ""]}, rows=2, config=config)
            print(len(dataset), "age" in dataset)
    """

    def __init__(
        self, columns: Mapping[str, Column], rows: int, config: ArtifactConfig, source: TableSource | None = None
    ) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.config = config
        self.source = source
        self._preprocessor = Preprocessor(config, {}, {}, {}, source=source)
        self._batch: tuple[Batch, Findings] | None = None
        self._values: _Values | None = None

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getitem__(self, index: SupportsIndex) -> Sample:
        row = range(self.rows)[operator.index(index)]  # also a negative index; IndexError beyond the last row
        if self._values is None:
            self._values = self._process()
        texts, features = self._values
        numbers = {name: values[row] for name, values in features.items()}
        tokens = {name: chunks[row] for name, chunks in texts.items()}
        processed = {**numbers, **tokens}
        values = {
            name: processed[name] if name in processed else _python_value(column, row)
            for name, column in self.columns.items()
        }
        batch, _ = self.to_batch()
        inputs = None if batch.unscaled is None else (batch.feature_names, batch.features[row])
        in_texts = {name: numbers[name] for name in numbers.keys() & tokens.keys()}
        return Sample(values, in_texts, self.config, row, inputs)

    def add_pipeline(self, name: str, processor: Pipeline | Imputer | RiskTable) -> None:
        """Register the processor of a column. A risk table of a text column is ignored."""
        self._batch = self._values = None
        if isinstance(processor, Pipeline):
            self._preprocessor.pipelines[name] = processor
        elif isinstance(processor, Imputer):
            self._preprocessor.imputers[name] = processor
        elif name not in {text.column for text in self.config.text_fields}:
            self._preprocessor.risk_tables[name] = processor

    def fill_missing_value(self, label_name: str | None = None, column_cat_name: Sequence[str] = ()) -> None:
        """Replace missing categories by empty text.

        Args:
            label_name: Name of the label column, which stays unchanged.
            column_cat_name: Names of the categorical columns; columns that the table does not have are ignored.
        """
        self._batch = self._values = None
        for name in column_cat_name:
            column = self.columns.get(name)
            if name == label_name or not isinstance(column, pa.Array | pa.ChunkedArray):
                continue
            if column.type in (pa.string(), pa.large_string()):
                self.columns[name] = column.fill_null("")

    def to_batch(self) -> tuple[Batch, Findings]:
        """Return the batch of all rows, and their findings.

        Raises:
            MissingColumnsError: Columns that the config names are missing; the error lists all of them.
        """
        if self._batch is None:
            preprocessor = self._preprocessor
            where = str(self.source.files[0]) if self.source else None
            require_columns(list(self.columns), preprocessor.wanted, where=where)
            self._batch = preprocessor.batch(preprocessor.as_read(self.columns), self.rows)
        return self._batch

    def _process(self) -> _Values:
        batch, _ = self.to_batch()
        features = dict(zip(self.config.tab_field_list, batch.table_values.T.tolist(), strict=True))
        imputers, risk_tables = self._preprocessor.imputers, self._preprocessor.risk_tables
        others = sorted((imputers.keys() | risk_tables.keys()) & self.columns.keys() - features.keys())
        mapped, _, _ = Features(others, imputers, risk_tables).transform(
            self._preprocessor.as_read(self.columns), self.rows, self._preprocessor.dialect
        )
        features |= zip(others, mapped.T.tolist(), strict=True)
        keys = self.config.text_input_ids_key, self.config.text_attention_mask_key
        texts = {
            name: [[_chunk(tokens, *keys) for tokens in row] for row in text.to_rows()]
            for name, text in batch.texts.items()
        }
        return texts, features


@dataclass(frozen=True)
class _Positions:
    """Rows that are named in errors by their positions in the dataset."""

    positions: Sequence[int]

    def names(self, rows: Sequence[int]) -> list[int]:
        return [self.positions[row] for row in rows]


def collate(samples: Sequence[Sample]) -> Batch:
    """Return the batch of some rows of a dataset.

    Args:
        samples: The rows, in the order of the batch; at least one.

    Raises:
        UsageError: A text field has no tokens.
    """
    config = samples[0].config
    texts: dict[str, TextBatch] = {}
    for column in (text.column for text in config.text_fields):
        rows = [sample[column] for sample in samples]
        if not all(isinstance(chunks, list) for chunks in rows):
            fix = f"add its pipeline first: dataset.add_pipeline({column!r}, pipelines[{column!r}])"
            raise UsageError(f"the text field {column!r} is not tokenized", fix=fix)
        texts[column] = TextBatch.from_rows([[chunk[config.text_input_ids_key] for chunk in chunks] for chunks in rows])
    names = config.tab_field_list
    scaled = [sample.inputs for sample in samples if sample.inputs is not None]
    if scaled:
        names, features = list(scaled[0][0]), torch.stack([values for _, values in scaled])
    else:
        numbers = [{**sample, **sample.text_features} for sample in samples]
        features = torch.tensor([[values[name] for name in names] for values in numbers], dtype=torch.float32)
    window = _Positions([sample.row for sample in samples])
    return Batch(len(samples), texts, features, window=window, feature_names=names)


def _chunk(tokens: Sequence[int], input_ids_key: str, attention_mask_key: str) -> dict[str, list[int]]:
    return {input_ids_key: list(tokens), attention_mask_key: [1] * len(tokens)}


def _python_value(column: Column, row: int) -> Any:
    """Return a cell of a column without a processor; bytes of a text file are text, if they are UTF-8."""
    (value,) = values_at(column, [row])
    text = text_of(value) if isinstance(value, bytes) else None
    return value if text is None else text
