"""From a window of table columns to a batch: ``BSMDataset``, and the loader that streams batches."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.errors import BSMError, EngineError
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.preprocess.features import Column, Features, Imputer, RiskTable
from bsm_core.preprocess.steps import Pipeline, TextFailure
from bsm_core.runtime.processes import without_interrupts
from bsm_core.runtime.profile import FEATURES, READING, WAITING, Times
from bsm_core.tables import TableSource, Window

NOT_TEXT = "reading"
"""What a :class:`TextFailure` names as its step when the value is not text."""


@dataclass(frozen=True)
class Findings:
    """What was odd about a window; the rows are predicted all the same.

    Attributes:
        texts: Rows whose text was taken as empty, by text column.
        numbers: How many cells were unparsable or infinite, by feature column.
    """

    texts: dict[str, list[TextFailure]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """``"text:<column>"`` and ``"number:<column>"`` with the number of rows of each."""
        counts = Counter({f"text:{column}": len(rows) for column, rows in self.texts.items()})
        counts.update({f"number:{column}": count for column, count in self.numbers.items()})
        return counts


@dataclass(frozen=True)
class WindowInfo:
    """What travels with a window's batch to the part it becomes.

    Attributes:
        index, start, last, fraction: As in :class:`bsm_core.tables.Window`.
        kept: The id column and other kept columns, untouched.
        findings: What was odd about the window.
        times: What its preparation took.
    """

    index: int
    start: int
    last: bool
    fraction: float
    kept: pa.Table
    findings: Findings
    times: Times = field(default_factory=Times)

    def names(self, rows: Sequence[int]) -> list[Any]:
        """What errors call some of its rows: their ids; where none is kept, their positions in the table."""
        if not self.kept.num_columns:
            return [self.start + row for row in rows]
        ids = self.kept.column(0).take(pa.array(rows, pa.int64())).to_pylist()
        return [value.decode(errors="backslashreplace") if isinstance(value, bytes) else value for value in ids]


class BSMDataset:
    """One window of rows with its pipelines.

    Args:
        columns: The table's columns by name: Arrow arrays, or sequences of Python objects.
        rows: Number of rows.
        config: The artifact's config.
    """

    def __init__(self, columns: Mapping[str, Column], rows: int, config: ArtifactConfig) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.config = config
        self._text: dict[str, Pipeline] = {}
        self._impute: dict[str, Imputer] = {}
        self._risk: dict[str, RiskTable] = {}

    def __len__(self) -> int:
        return self.rows

    def add_pipeline(self, name: str, processor: Pipeline | Imputer | RiskTable) -> None:
        """Register what turns a column into model input; a text field is never risk-mapped."""
        if isinstance(processor, Pipeline):
            self._text[name] = processor
        elif isinstance(processor, Imputer):
            self._impute[name] = processor
        elif name not in {field.column for field in self.config.text_fields}:
            self._risk[name] = processor

    def fill_missing_value(self, label_name: str | None = None, column_cat_name: Sequence[str] = ()) -> None:
        """Fill missing categories with empty text, as the contract's dataset does; a label is never touched."""
        for name in column_cat_name:
            column = self.columns.get(name)
            if name == label_name or not isinstance(column, pa.Array | pa.ChunkedArray):
                continue
            if column.type in (pa.string(), pa.large_string()):
                self.columns[name] = column.fill_null("")

    def to_batch(self, times: Times | None = None) -> tuple[Batch, Findings]:
        """Run the pipelines, a column at a time: text, numeric imputation, risk tables.

        Args:
            times: Where the time of each is added.
        """
        times = Times() if times is None else times
        texts: dict[str, TextBatch] = {}
        failures: dict[str, list[TextFailure]] = {}
        for column, pipeline in self._text.items():
            with times.of(f"{column}: {NOT_TEXT}"):
                values, unreadable = text_values(self.columns[column])
            tokens, failed = pipeline(values, times)
            with times.of(f"{column}: distinct chunks"):
                texts[column] = TextBatch.from_rows(tokens)
            if unreadable or failed:
                failures[column] = sorted(unreadable + failed, key=lambda failure: failure.row)
        with times.of(FEATURES):
            features = Features(self.config.tab_field_list, self._impute, self._risk)
            matrix = features.transform(self.columns, self.rows)
        batch = Batch(self.rows, texts, torch.from_numpy(matrix.values))
        return batch, Findings(failures, matrix.bad)


def text_values(column: Column) -> tuple[list[str], list[TextFailure]]:
    """The column's texts; missing ones are empty, and so, with a failure each, are values that are not text."""
    if isinstance(column, pa.Array | pa.ChunkedArray):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = _decoded(column)
        values = column.to_pylist()
    else:
        values = list(column)
    texts: list[str] = []
    failures: list[TextFailure] = []
    for row, value in enumerate(values):
        text, reason = (value, None) if isinstance(value, str) else _as_text(value)
        texts.append(text)
        if reason:
            failures.append(TextFailure(row, NOT_TEXT, reason))
    return texts, failures


def _decoded(column: Any) -> Any:
    """Bytes as strings in one go where all are UTF-8; otherwise the bytes, to be looked at one by one."""
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return column


def _as_text(value: Any) -> tuple[str, str | None]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "", None
    if isinstance(value, bytes):
        try:
            return value.decode(), None
        except UnicodeDecodeError as error:
            return "", f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
    return "", f"a {type(value).__name__} is not text"


class Preprocessor:
    """Turns windows into batches; light enough to travel to worker processes.

    Args:
        config: The artifact's config.
        pipelines: The pipeline of each text column.
        impute: Imputation values by feature.
        risk_tables: Risk tables by feature.
        keep: Columns that pass through untouched, the id first.
    """

    def __init__(
        self,
        config: ArtifactConfig,
        pipelines: Mapping[str, Pipeline],
        impute: Mapping[str, float],
        risk_tables: Mapping[str, Mapping[str, Any]],
        keep: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.pipelines = dict(pipelines)
        self.imputers = {name: Imputer(value) for name, value in impute.items()}
        self.risk_tables = {name: RiskTable(t["bins"], t["default_bin"]) for name, t in risk_tables.items()}
        self.keep = tuple(keep)

    @property
    def wanted(self) -> dict[str, str]:
        """Columns the model needs, and the config key that wants each."""
        wanted = {text.column: f"config.{text.key}" for text in self.config.text_fields}
        return {**dict.fromkeys(self.config.tab_field_list, "config.tab_field_list"), **wanted}

    def batch(self, columns: Mapping[str, Column], rows: int, times: Times | None = None) -> tuple[Batch, Findings]:
        """The batch of some rows, and what was odd about them; ``times`` as in :meth:`BSMDataset.to_batch`."""
        dataset = BSMDataset(columns, rows, self.config)
        for processors in (self.pipelines, self.imputers, self.risk_tables):
            for name, processor in processors.items():
                dataset.add_pipeline(name, processor)
        return dataset.to_batch(times)

    def __call__(self, window: Window, times: Times | None = None) -> Batch:
        """The batch of a window, with what travels to its part; ``times`` is what reading it took."""
        table, times = window.table, Times() if times is None else times
        columns = dict(zip(table.column_names, table.columns, strict=True))
        batch, findings = self.batch(columns, table.num_rows, times)
        kept = table.select(self.keep)
        info = WindowInfo(window.index, window.start, window.last, window.fraction, kept, findings, times)
        return Batch(batch.rows, batch.texts, batch.features, window=info)


class _Windows(IterableDataset[Any]):
    """Every ``of``-th window from ``first`` on, split further among the loader's workers."""

    def __init__(
        self,
        source: TableSource,
        preprocess: Callable[[Window, Times], Batch] | bytes,
        columns: Collection[str],
        rows: int,
        first: int,
        of: int,
    ) -> None:
        self.source, self.preprocess, self.columns, self.rows = source, preprocess, tuple(columns), rows
        self.first, self.of = first, of

    def __getstate__(self) -> dict[str, Any]:
        # A worker that fails while it unpickles its dataset dies, and its words with it. So what builds steps, which
        # may be a stranger's, travels as bytes, and is unpickled where errors are told.
        return {**vars(self), "preprocess": pickle.dumps(self.preprocess)}

    def __iter__(self) -> Iterator[Batch | BSMError]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        try:
            preprocess = pickle.loads(self.preprocess) if isinstance(self.preprocess, bytes) else self.preprocess
            windows = self.source.windows(self.columns, rows=self.rows)
            last, times = False, Times()
            while not last:
                with times.of(READING):
                    window = next(windows)
                last = window.last
                if window.index % (self.of * workers) == self.first + number * self.of:
                    yield preprocess(window, times)
                    times = Times()
        except BSMError as error:
            yield error  # raised by WindowLoader: an error that leaves a worker by itself loses its type and its words


class WindowLoader:
    """Streams the batches of a table, one a window.

    Args:
        source: The table.
        preprocess: What turns a window into a batch.
        rows: Rows of a window.
        rank, world: Which windows are ours: those whose index is ``rank`` modulo ``world``.
        num_workers: Processes that prepare windows; 0 prepares them in this one.
        pin_memory: Put batches in page-locked memory, for a GPU.
    """

    def __init__(
        self,
        source: TableSource,
        preprocess: Preprocessor,
        *,
        rows: int = 4096,
        rank: int = 0,
        world: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        columns = dict.fromkeys([*preprocess.keep, *preprocess.wanted])
        self._loader: DataLoader[Any] = DataLoader(
            _Windows(source, preprocess, columns, rows, rank, world),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # A forked child of a process that runs Arrow's and torch's threads can hang; a spawned one cannot.
            multiprocessing_context="spawn" if num_workers else None,
        )

    def __iter__(self) -> Iterator[Batch]:
        items: Iterator[Any] | None = None
        try:
            with without_interrupts() if self._loader.num_workers else nullcontext():
                items = iter(self._loader)
            while True:
                waited = Times()
                with waited.of(WAITING):
                    item = next(items, None)
                if item is None:
                    return
                if isinstance(item, BSMError):
                    raise item
                if self._loader.num_workers:  # else it was not waited for, but prepared
                    item.window.times.add(waited)
                yield item
        except (RuntimeError, EOFError, ConnectionError) as error:  # the latter two where the pipe breaks first
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise EngineError(
                f"a process that prepares windows died: {error}",
                fix="it may have run out of memory: lower --num-workers or --window-rows, or set --num-workers 0",
            ) from error
        finally:
            items = None  # ends the workers; where an error's traceback holds it, they are waited for in vain
