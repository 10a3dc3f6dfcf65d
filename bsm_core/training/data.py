"""Rows of a training job: reading, labeling, splitting and batching."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.preprocess.columns import TableLike, table_columns
from bsm_core.storage.objects import place
from bsm_core.tables.data_files import SourceFormat
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 10
"""Largest number of rows or values that an error names."""
_MISSING = "nan"
"""Category key of a missing label."""
_BATCHES_PER_BLOCK = 16
"""Number of batches whose rows are sorted by length together, so that a batch has rows of similar length."""


@dataclass(frozen=True)
class Rows:
    """Labeled rows.

    Attributes:
        columns: Columns by name.
        labels: Class indices, int64 ``[rows]``.
        taken: Positions of the rows in the table from which they were taken, int64 ``[rows]``; None: these rows are the
            table.
        dialect: Spelling of numbers in text.
        source: Format of the files that hold the rows; None if no files do.
    """

    columns: dict[str, Column]
    labels: Tensor
    taken: Tensor | None = None
    dialect: Dialect = field(default_factory=Dialect)
    source: SourceFormat | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> Rows:
        """Return the rows at some positions, in the order of ``indices``."""
        where = pa.array(indices, pa.int64())
        columns: dict[str, Column] = {
            name: rows_at(column, where)
            if isinstance(column, pa.Array | pa.ChunkedArray)
            else [column[i] for i in indices]
            for name, column in self.columns.items()
        }
        taken = torch.tensor(indices, dtype=torch.int64)
        return replace(
            self,
            columns=columns,
            labels=self.labels[taken],
            taken=taken if self.taken is None else self.taken[taken],
        )

    def numbers(self) -> list[int]:
        """Return the number of each row in its table; the first row of a table is row 1."""
        return ((torch.arange(len(self)) if self.taken is None else self.taken) + 1).tolist()

    def head(self, count: int) -> pd.DataFrame:
        """Return the first rows as a table of Python objects."""
        import pandas as pd

        first = {name: column[:count] for name, column in self.columns.items()}
        cells = {name: c.to_pylist() if isinstance(c, pa.Array | pa.ChunkedArray) else c for name, c in first.items()}
        return pd.DataFrame(cells, dtype=object)

    def split(self, fraction: float, seed: int) -> tuple[Rows, Rows | None]:
        """Split the rows at random into training and validation rows, each in the order of the table.

        Args:
            fraction: Share of the rows that becomes validation rows, 0 to 1.
            seed: Seed of the choice; the same seed chooses the same rows.

        Returns:
            The training rows and the validation rows; None for no validation rows.
        """
        count = min(math.ceil(len(self) * fraction), len(self) - 1)
        if not count:
            return self, None
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[count:]).tolist()), self.take(np.sort(order[:count]).tolist())


def read_columns(
    data: str | Path | TableLike,
    wanted: Mapping[str, str],
    called: str = "data",
    dialect: Dialect | None = None,
) -> tuple[dict[str, Column], TableSource | None]:
    """Return columns of files or of a table in memory, with all rows; and the files.

    Args:
        data: The source of the rows.
        wanted: Names of columns, and the config key or setting that asks for each.
        called: Name of the table, for errors.
        dialect: Dialect of CSV and TSV files.

    Raises:
        MissingColumnsError: Columns are missing. The error names all of them and the keys that ask for them.
        DataError: A file cannot be read, or there are no rows.
    """
    source = None
    if isinstance(data, str | Path):
        source = TableSource.open(place(data), dialect=dialect)
        source.require(wanted)
        table: TableLike = pa.concat_tables(window.table for window in source.windows(list(wanted)))
    else:
        table = data
    columns, index = table_columns(table, wanted)
    if not len(index):
        raise DataError("the table has no rows", where=called, fix="give a table with labeled rows")
    return columns, source


def class_order(column: Column, name: str, classes: int, given: Collection[Any] | None) -> list[Any]:
    """Return the label of each class, in the order of ``prob_class_0``, ``prob_class_1`` and so on.

    Args:
        column: The labels.
        name: Name of the column, for errors.
        classes: Number of classes.
        given: The config's ``multiclass_categories``, which sets the order. Without it, numbers come first, in
            ascending order, then texts.

    Raises:
        DataError: The number of distinct labels is not ``classes``.
    """
    rows: Counter[Decimal | str] = Counter()
    for text, count in Counter(category_texts(column)).items():
        rows[category_key(text)] += count
    found: dict[Decimal | str, Any] = {category_key(str(value)): value for value in given or ()}
    if given is None:
        numbers = sorted(key for key in rows if isinstance(key, Decimal))
        texts = sorted(key for key in rows if isinstance(key, str) and key != _MISSING)
        found = {key: int(key) if key == key.to_integral_value() else float(key) for key in numbers}
        found |= {key: key for key in texts}
    if (number := len(found)) != classes or classes < 2:
        shown = _first([f"{value!r} ({rows[key]:,} rows)" for key, value in found.items()])
        raise DataError(
            f"the label {name!r} has {number} class(es), the config expects {classes}",
            where=f"column {name!r}",
            details=[f"classes: {', '.join(shown) or 'none'}"],
            fix=f"correct wrong labels; or set num_classes to {number} and is_binary to {str(number == 2).lower()}; or"
            " set label_name to another column"
            if number > 1
            else "give rows of at least two classes",
        )
    return list(found.values())


def class_indices(column: Column, name: str, order: Sequence[Any], called: str = "data") -> Tensor:
    """Return labels as class indices, int64 ``[rows]``.

    Args:
        column: The labels.
        name: Name of the column, for errors.
        order: Label of each class.
        called: Name of the table, for errors.

    Raises:
        DataError: Labels are missing or do not belong to a class. The error names the rows.
    """
    index = {category_key(str(value)): i for i, value in enumerate(order)}
    texts = category_texts(column)
    known = {text: index.get(category_key(text), -1) for text in set(texts)}
    labels = torch.tensor([known[text] for text in texts], dtype=torch.int64)
    if bad := (labels < 0).nonzero().flatten().tolist():
        rows = [f"row {i + 1}: {'no label' if category_key(texts[i]) == _MISSING else repr(texts[i])}" for i in bad]
        raise DataError(
            f"{len(bad):,} row(s) have no label, or a label that is not one of the classes",
            where=f"{called}, column {name!r}",
            details=[*_first(rows), f"classes: {', '.join(map(repr, order))}"],
            fix="correct these rows or remove them; the first row of the table is row 1",
        )
    return labels


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _NAMED else [*lines[:_NAMED], "..."]


class BatchRows(Dataset[Batch]):
    """All rows as one batch. A list of row numbers selects a smaller batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.batch.rows

    def __getitem__(self, rows: list[int]) -> Batch:
        return self.batch.select(torch.tensor(rows, dtype=torch.int64))


class ShuffledBatches(Sampler[list[int]]):
    """Row numbers of the batches of an epoch, in random order. The rows of a batch have similar lengths.

    Args:
        batch: All rows.
        rows_per_batch: Number of rows in a batch; one batch of an epoch may have fewer.
        seed: Seed of the job. The order depends on the seed and the epoch.
    """

    def __init__(self, batch: Batch, rows_per_batch: int, seed: int) -> None:
        self.rows_per_batch, self.seed, self.epoch = rows_per_batch, seed, 0
        self.lengths = np.zeros(batch.rows, np.int64)
        for text in batch.texts.values():
            tokens = text.chunk_offsets.diff()[text.chunk_ids]
            rows = torch.repeat_interleave(torch.arange(batch.rows), text.row_lengths)
            self.lengths += torch.zeros(batch.rows, dtype=torch.int64).index_add_(0, rows, tokens).numpy()

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.rows_per_batch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        size = self.rows_per_batch * _BATCHES_PER_BLOCK
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rows = np.concatenate([block[np.argsort(self.lengths[block], kind="stable")] for block in blocks])
        for i in rng.permutation(len(self)):
            yield rows[i * self.rows_per_batch : (i + 1) * self.rows_per_batch].tolist()
