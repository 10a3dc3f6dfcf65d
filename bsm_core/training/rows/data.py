"""Labeled rows: reading their columns, taking some of them, splitting them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from bsm_core.errors import DataError
from bsm_core.preprocess.cells import Column
from bsm_core.preprocess.columns import TableLike, table_columns
from bsm_core.storage.objects import place
from bsm_core.tables.bad_lines import BadLine
from bsm_core.tables.data_files import SourceFormat
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd


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
        left_out: Number of rows of the table that are not used, by reason.
    """

    columns: dict[str, Column]
    labels: Tensor
    taken: Tensor | None = None
    dialect: Dialect = field(default_factory=Dialect)
    source: SourceFormat | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

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

        Each class has its share of the validation rows. A class of two rows or more has rows in both parts, unless a
        part has fewer rows than there are classes.

        Args:
            fraction: Share of the rows that becomes validation rows, 0 to 1.
            seed: Seed of the choice; the same seed chooses the same rows.

        Returns:
            The training rows and the validation rows; None for no validation rows.
        """
        count = min(math.ceil(len(self) * fraction), len(self) - 1)
        if count <= 0:
            return self, None
        random = np.random.default_rng(seed)
        _, labels, sizes = np.unique(self.labels.numpy(), return_inverse=True, return_counts=True)
        order = random.permutation(len(self))
        order = order[np.argsort(labels[order], kind="stable")]  # class after class, each in random order
        place = np.arange(len(self)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        is_held = place < np.repeat(_held_out(sizes, count, random.permutation(len(sizes))), sizes)
        return self.take(np.sort(order[~is_held]).tolist()), self.take(np.sort(order[is_held]).tolist())


def _held_out(sizes: npt.NDArray[np.int64], count: int, turns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the number of validation rows of each class, ``count`` together.

    Args:
        sizes: Number of rows of each class, at least 1.
        count: Number of validation rows, less than the number of rows.
        turns: Order of the classes. If several classes have the same claim to a row, the first in this order gets it.
    """
    sizes = sizes[turns]
    low, high = np.minimum(1, sizes - 1), sizes - 1
    if low.sum() > count:
        low = np.zeros_like(sizes)
    if high.sum() < count:
        high = sizes
    shares = sizes * (count / sizes.sum())
    given = np.clip(np.floor(shares).astype(np.int64), low, high)
    while lacking := int(np.sign(count - given.sum())):
        may = given < high if lacking > 0 else given > low
        given[np.argmax(np.where(may, lacking * (shares - given), -np.inf))] += lacking
    found: npt.NDArray[np.int64] = given[np.argsort(turns)]
    return found


class ReadColumns(NamedTuple):
    """Columns of a table.

    Attributes:
        columns: Columns by name, with all rows.
        source: The files; None for a table in memory.
        bad_lines: Lines that cannot be read as rows and were left out, each with the number of rows before it.
    """

    columns: dict[str, Column]
    source: TableSource | None = None
    bad_lines: Sequence[tuple[int, BadLine]] = ()


def read_columns(
    data: str | Path | TableLike,
    wanted: Mapping[str, str],
    called: str = "data",
    dialect: Dialect | None = None,
    on_bad_line: Literal["fail", "skip"] = "fail",
) -> ReadColumns:
    """Return columns of files or of a table in memory, with all rows; and the files.

    Args:
        data: The source of the rows.
        wanted: Names of columns, and the config key or setting that asks for each.
        called: Name of the table, for errors.
        dialect: Dialect of CSV and TSV files.
        on_bad_line: Whether a line of a text file that cannot be read as a row is an error or is left out.

    Raises:
        MissingColumnsError: Columns are missing. The error names all of them and the keys that ask for them.
        DataError: A file cannot be read, or there are no rows.
    """
    source, bad_lines = None, list[tuple[int, BadLine]]()
    if isinstance(data, str | Path):
        source = TableSource.open(place(data), on_bad_line, dialect)
        source.require(wanted)
        tables = []
        for window in source.windows(list(wanted)):
            tables.append(window.table)
            bad_lines += [(window.start + before, bad) for before, bad in window.bad_lines]
        table: TableLike = pa.concat_tables(tables)
    else:
        table = data
    columns, index = table_columns(table, wanted)
    if not len(index):
        raise DataError("the table has no rows", where=called, fix="give a table with labeled rows")
    return ReadColumns(columns, source, bad_lines)
