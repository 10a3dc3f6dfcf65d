"""Rows of a table that a proposal looks at: a random sample, and the labels of all rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.errors import DataError
from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.read import TableSource
from bsm_core.training.rows.labels import require_labels

ROWS = 20_000
"""Largest number of rows in a sample."""
MISSING = "nan"
"""Text and category key of a missing cell."""


@dataclass(frozen=True)
class SampledRows:
    """Labeled rows of a table, in the order of the table.

    Attributes:
        columns: Columns by name, without the label.
        positions: Position of each row in the table, int64 ``[rows]``.
        labels: Text of the label of each row.
        counts: Number of rows of the whole table by label, without missing ones.
        spelling: First text of each label in the table, by the key that all its spellings have.
        rows: Number of rows of the whole table with a label.
        unlabeled: Number of rows of the whole table without a label.
        dialect: Spelling of numbers in text.
        repeated: Names of columns that the table has more than once, which are not in ``columns``.
    """

    columns: dict[str, Column]
    positions: npt.NDArray[np.int64]
    labels: list[str]
    counts: Counter[Decimal | str]
    spelling: dict[Decimal | str, str]
    rows: int
    unlabeled: int
    dialect: Dialect = field(default_factory=Dialect)
    repeated: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def label_keys(self) -> list[Decimal | str]:
        """Return the key of the label of each row, which all spellings of a label have."""
        return [category_key(text) for text in self.labels]


def sample_rows(
    path: Path, label: str, dialect: Dialect | None = None, on_bad_line: Literal["fail", "skip"] = "fail"
) -> SampledRows:
    """Read a table once and keep at most :data:`ROWS` of its rows, which are drawn at random; each call draws the same.

    Args:
        path: A data file or a folder of files.
        label: Name of the column of the label.
        dialect: Dialect of CSV and TSV files.
        on_bad_line: Whether a line of a text file that cannot be read as a row is an error or is left out.

    Raises:
        MissingColumnsError: There is no such column; the error names the nearest.
        DataError: A file cannot be read, a label is of no type that a class can have, or no row has a label.
    """
    source = TableSource.open(path, on_bad_line, dialect)
    source.require({label: "--label"})
    known = Counter(source.columns)
    names = [name for name, times in known.items() if times == 1]
    random, reservoir = np.random.default_rng(0), _Reservoir()
    counts, spelling, unlabeled = Counter[Decimal | str](), dict[Decimal | str, str](), 0
    for window in source.windows(names):
        require_labels(window.table.column(label), label)
        texts = category_texts(window.table.column(label))
        for text, times in Counter(texts).items():
            key = category_key(text)
            counts[key] += times
            spelling.setdefault(key, text)
        labeled = np.array([category_key(text) != MISSING for text in texts], bool).nonzero()[0]
        unlabeled += len(texts) - len(labeled)
        reservoir.add(window.table, labeled, window.start, random.random(len(labeled)))
    counts.pop(MISSING, None)
    if not counts:
        fix = "give a table with labeled rows, or another --label"
        raise DataError("no row has a label", where=f"{path}, column {label!r}", fix=fix)
    table, positions = reservoir.taken()
    columns = {name: table.column(name) for name in names if name != label}
    repeated = tuple(name for name, times in known.items() if times > 1)
    labels = category_texts(table.column(label))
    total = sum(counts.values())
    return SampledRows(columns, positions, labels, counts, spelling, total, unlabeled, source.dialect, repeated)


class _Reservoir:
    """Rows with the smallest random numbers of all that were added."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._positions, self._keys = np.empty(0, np.int64), np.empty(0)

    def add(self, table: pa.Table, rows: npt.NDArray[np.intp], start: int, keys: npt.NDArray[np.float64]) -> None:
        """Add some rows of a window that begins at a position of the table, each with its random number."""
        if len(self._keys) >= ROWS:  # of which the largest bounds what can still be drawn
            small = keys < np.partition(self._keys, ROWS - 1)[ROWS - 1]
            rows, keys = rows[small], keys[small]
        self._tables.append(_rows_of(table, rows))
        self._positions = np.concatenate([self._positions, start + rows])
        self._keys = np.concatenate([self._keys, keys])
        if len(self._keys) > 2 * ROWS:
            self.taken()

    def taken(self) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        """Return the rows that are drawn of those so far, in order, and their positions; forget the others."""
        order = np.sort(np.argsort(self._keys, kind="stable")[:ROWS])
        table = _rows_of(pa.concat_tables(self._tables), order)
        self._tables, self._positions, self._keys = [table], self._positions[order], self._keys[order]
        return table, self._positions


def _rows_of(table: pa.Table, rows: npt.NDArray[np.intp]) -> pa.Table:
    where = pa.array(rows, pa.int64())
    return pa.table([rows_at(column, where) for column in table.columns], schema=table.schema)
