"""The rows of a training job: read, labelled, split, and dealt out in batches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from bsm_core.errors import DataError
from bsm_core.models.batch import Batch
from bsm_core.preprocess.columns import table_columns
from bsm_core.preprocess.features import Column, category_key, category_texts
from bsm_core.tables import TableSource

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 10
"""How many rows or values an error names."""
_MISSING = "nan"
"""The key of a label that is missing."""
_BATCHES_A_BLOCK = 16
"""Rows are sorted by length within so many batches: like lengths together, and order still random."""


@dataclass(frozen=True)
class Rows:
    """Some labelled rows.

    Attributes:
        columns: Columns by name.
        labels: int64 ``[rows]``, class indices.
    """

    columns: dict[str, Column]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> Rows:
        """Some of them, in that order."""
        where = pa.array(indices, pa.int64())
        columns: dict[str, Column] = {
            name: column.take(where) if isinstance(column, pa.Array | pa.ChunkedArray) else [column[i] for i in indices]
            for name, column in self.columns.items()
        }
        return Rows(columns, self.labels[torch.tensor(indices, dtype=torch.int64)])

    def head(self, count: int) -> pd.DataFrame:
        """The first rows, as a table of Python objects."""
        import pandas as pd

        cells: dict[str, list[Any]] = {}
        for name, column in self.take(range(min(count, len(self)))).columns.items():
            cells[name] = column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else list(column)
        return pd.DataFrame(cells, dtype=object)

    def split(self, fraction: float, seed: int) -> tuple[Rows, Rows | None]:
        """Hold some rows out at random: the same ones for the same seed, each part in the order of the table."""
        held = min(math.ceil(len(self) * fraction), len(self) - 1)
        if not held:
            return self, None
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[held:]).tolist()), self.take(np.sort(order[:held]).tolist())


def read_columns(
    data: str | Path | pd.DataFrame | pa.Table, wanted: Mapping[str, str], called: str = "data"
) -> dict[str, Column]:
    """The wanted columns of a file, a folder, a frame or a table, all rows at once; errors call it as ``called`` says.

    Raises:
        MissingColumnsError: Columns are missing; it names all of them and who wants each.
        DataError: A file cannot be read, or there are no rows.
    """
    if isinstance(data, str | Path):
        source = TableSource.open(Path(data))
        source.require(wanted)
        data = pa.concat_tables(window.table for window in source.windows(list(wanted)))
    columns, _ = table_columns(data, wanted)
    if not len(data):
        raise DataError("the table has no rows", where=called, fix="training and measuring need rows with labels")
    return columns


def class_order(column: Column, name: str, classes: int, given: Collection[Any] | None) -> list[Any]:
    """The label of each class, in the order of ``prob_class_0``, ``prob_class_1``, ….

    Args:
        column: The labels.
        name: The column's name, for errors.
        classes: How many there must be.
        given: ``multiclass_categories`` of the config, which decides where it is given; else numbers stand in
            ascending order, and texts behind them.

    Raises:
        DataError: There are more or fewer distinct labels.
    """
    rows: Counter[Decimal | str] = Counter()
    for text, count in Counter(category_texts(column)).items():
        rows[category_key(text)] += count
    if given is not None:
        found = {category_key(str(value)): value for value in given}
    else:
        found = {key: _plain(key) for key in sorted(rows.keys() - {_MISSING}, key=_place)}
    if len(found) != classes or classes < 2:
        raise _other_classes(name, classes, [(value, rows[key]) for key, value in found.items()])
    return list(found.values())


def _other_classes(name: str, classes: int, found: list[tuple[Any, int]]) -> DataError:
    shown = [f"{value!r} ({count:,} rows)" for value, count in found[:_NAMED]]
    number = len(found)
    return DataError(
        f"label {name!r} has {number} class(es), the config says {classes}",
        where=f"column {name!r}",
        details=[f"classes: {', '.join([*shown, *(['...'] if number > _NAMED else [])]) or 'none'}"],
        fix=f"correct stray labels; or set num_classes to {number} and is_binary to {str(number == 2).lower()}, or"
        " label_name to another column"
        if number > 1
        else "give rows of at least two classes",
    )


def class_indices(column: Column, name: str, order: Sequence[Any], called: str = "data") -> Tensor:
    """Labels as class indices, int64 ``[rows]``; errors call the table as ``called`` says.

    Raises:
        DataError: A label is missing or is none of the classes; it names rows.
    """
    index = {category_key(str(value)): i for i, value in enumerate(order)}
    texts = category_texts(column)
    known = {text: index.get(category_key(text), -1) for text in set(texts)}
    labels = torch.tensor([known[text] for text in texts], dtype=torch.int64)
    if bad := (labels < 0).nonzero().flatten().tolist():
        shown = [
            f"row {i + 1}: {'no label' if category_key(texts[i]) == _MISSING else repr(texts[i])}" for i in bad[:_NAMED]
        ]
        raise DataError(
            f"{len(bad)} row(s), counted from 1, have a label that is none of the classes",
            where=f"{called}, column {name!r}",
            details=[*shown, *(["..."] if len(bad) > _NAMED else []), f"classes: {', '.join(map(repr, order))}"],
            fix="correct these rows or leave them out",
        )
    return labels


def _place(key: Decimal | str) -> tuple[bool, Decimal, str]:
    return (False, key, "") if isinstance(key, Decimal) else (True, Decimal(0), key)


def _plain(key: Decimal | str) -> Any:
    if isinstance(key, str):
        return key
    return int(key) if key == key.to_integral_value() else float(key)


class BatchRows(Dataset[Batch]):
    """All rows as one batch, from which a list of row numbers takes a smaller one."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.batch.rows

    def __getitem__(self, rows: list[int]) -> Batch:
        return self.batch.select(torch.tensor(rows, dtype=torch.int64))


class ShuffledBatches(Sampler[list[int]]):
    """Rows in batches of like length, in an order that the seed and the epoch decide.

    Args:
        batch: All rows.
        batch_size: Rows of a batch; the last one of an epoch may be smaller.
        seed: The job's.
    """

    def __init__(self, batch: Batch, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.lengths = np.zeros(batch.rows, np.int64)
        for text in batch.texts.values():
            tokens = text.chunk_offsets.diff()[text.chunk_ids]
            rows = torch.repeat_interleave(torch.arange(batch.rows), text.row_lengths)
            self.lengths += torch.zeros(batch.rows, dtype=torch.int64).index_add_(0, rows, tokens).numpy()

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        size = self.batch_size * _BATCHES_A_BLOCK
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rows = np.concatenate([block[np.argsort(self.lengths[block], kind="stable")] for block in blocks])
        for i in rng.permutation(len(self)):
            yield rows[i * self.batch_size : (i + 1) * self.batch_size].tolist()
