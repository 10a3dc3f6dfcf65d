"""Comparing two prediction files: which rows differ, by how much, and what these rows have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.errors import UsageError
from bsm_core.scoring.comparing import TOLERANCE
from bsm_core.scoring.comparing.joining import (
    Repeats,
    Spelling,
    Uneven,
    join,
    keys_of,
    repeats_of,
    spelled_otherwise,
    uneven_ids,
)
from bsm_core.scoring.comparing.prediction_columns import common_columns, compared_columns, others_than_probabilities
from bsm_core.scoring.comparing.prediction_rows import ids_and_probabilities, ids_of, tables_of
from bsm_core.scoring.comparing.traits import LEAST_ROWS, TraitCounts, Traits
from bsm_core.scoring.output.markers import PREDICTIONS
from bsm_core.tables.data_files import FORMATS
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd

_MOST_CLASSES = 32
"""Largest number of classes for which exchanged ones are looked for, which takes the square of it."""
_FITS_BETTER = 0.1
"""Share of the mean difference to which the right order of the classes reduces it, if they are exchanged."""


@dataclass(frozen=True)
class RowDifference:
    """Probability that differs most in one row.

    Attributes:
        id: Id of the row, as text.
        nth: Number of the row among those with this id, from 1.
        column: Name of the probability column.
        old: Probability in the old file.
        new: Probability in the new file.
    """

    id: str
    nth: int
    column: str
    old: float
    new: float


@dataclass(frozen=True)
class Exchange:
    """Probability columns of the old file that fit other ones of the new file.

    Attributes:
        columns: For each column of the old file that fits a column of another name, the name of that column.
        differing: Number of rows that still differ if the columns are exchanged.
    """

    columns: dict[str, str]
    differing: int


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        rows: Number of rows with an id of both files.
        only_old: Ids that only the old file has, in its order. The second row of an id is another id than the first.
        only_new: Ids that only the new file has, in its order.
        spellings: How ids that only one file has differ from those that only the other has.
        other_columns: Columns of both files on which they could be joined in place of the id.
        repeated_old: Ids that the old file has more than once.
        repeated_new: Ids that the new file has more than once.
        uneven: Ids that both files have, one of them in more rows.
        scored_only_old: Ids of both files with a probability that only the old file has.
        scored_only_new: Ids of both files with a probability that only the new file has.
        unscored: Number of rows of both files with a probability in one file only.
        differing: Number of the other rows in which a probability differs by more than the tolerance.
        other_class: Number of these rows in which another class is the most probable.
        median: Median of the largest difference of each row that differs; 0 if none does.
        largest: Largest difference of all rows.
        exchanged: Classes that are exchanged, which is why rows differ; None if they are not.
        worst: The rows that differ most, the first most of all.
        traits: What the rows that differ have in common.
        unscored_traits: What the rows with a probability in one file only have in common.
    """

    rows: int
    only_old: list[str]
    only_new: list[str]
    spellings: list[Spelling]
    other_columns: list[str]
    repeated_old: Repeats
    repeated_new: Repeats
    uneven: Uneven | None
    scored_only_old: list[str]
    scored_only_new: list[str]
    unscored: int
    differing: int
    other_class: int
    median: float
    largest: float
    exchanged: Exchange | None
    worst: list[RowDifference]
    traits: Traits
    unscored_traits: Traits

    @property
    def is_same(self) -> bool:
        """Whether both files have the same ids, and no row differs."""
        return not (self.differing or self.only_old or self.only_new or self.unscored)


def compare(
    old: Path,
    new: Path,
    *,
    id_field: str | None = None,
    data: Path | None = None,
    dialect: Dialect | None = None,
    tolerance: float = TOLERANCE,
    worst: int = 10,
    traits: int = 10,
) -> Comparison:
    """Compare two prediction files, which are joined on the id.

    The ids and probabilities of both files are in memory.

    Args:
        old: A prediction file, of any format.
        new: Prediction file of the same rows. Formats and orders of rows may differ.
        id_field: Name of the id column. None: the first column of ``new``.
        data: Table with the id and the columns in which traits are looked for. None: ``old`` if it has such columns,
            else ``new``.
        dialect: Dialect of ``data``, if it is CSV or TSV. The prediction files are plain, but may have decimal commas.
        tolerance: Largest difference of two equal probabilities.
        worst: Largest number of rows to return.
        traits: Largest number of traits to return.

    Raises:
        UsageError: The files have no probability columns, or other ones, the id column must be given, or the tolerance
            is not a number from 0.
        MissingColumnsError: A file or ``data`` has no id column.
        DataError: A file cannot be read, or a probability is not a number.
    """
    if not tolerance >= 0:
        raise UsageError(f"the tolerance is {tolerance:g}", fix="give a number from 0, such as 1e-5")
    sources = [TableSource.open(_prediction_file(path), partitions=False) for path in (old, new)]
    looked_at = [TableSource.open(data, dialect=dialect)] if data else sources
    id_field, names = compared_columns(sources[0], sources[1], id_field)
    if data:
        looked_at[0].require({id_field: "bsm compare as the id"})
    read = (
        ids_and_probabilities(tables_of(source, [id_field, *names]), id_field, names, str(source.files[0]))
        for source in sources
    )
    ids, probabilities = zip(*read, strict=True)
    joined = join(*ids)
    both = joined.dropna()
    rows = [both[side].to_numpy(np.int64) for side in ("old", "new")]
    a, b = (values[at] for values, at in zip(probabilities, rows, strict=True))
    only_a, only_b = ((np.isnan(y) & ~np.isnan(x)).any(axis=1) for x, y in ((a, b), (b, a)))
    scored = ~(only_a | only_b)
    off = np.nan_to_num(np.abs(a - b)) * scored[:, None]
    differs = off.max(axis=1) > tolerance
    only_old = _ids(joined[joined["new"].isna()].sort_values("old"))
    only_new = _ids(joined[joined["old"].isna()].sort_values("new"))
    return Comparison(
        rows=len(both),
        only_old=only_old,
        only_new=only_new,
        spellings=spelled_otherwise(only_old, only_new),
        other_columns=[name for name in common_columns(sources) if name != id_field],
        repeated_old=repeats_of(joined["old"].dropna().index),
        repeated_new=repeats_of(joined["new"].dropna().index),
        uneven=uneven_ids(joined),
        scored_only_old=_ids(both[only_a]),
        scored_only_new=_ids(both[only_b]),
        unscored=int((~scored).sum()),
        differing=int(differs.sum()),
        other_class=int((_most_probable(a) != _most_probable(b))[scored].sum()),
        median=float(np.median(off.max(axis=1)[differs])) if differs.any() else 0.0,
        largest=float(off.max(initial=0.0)),
        exchanged=_exchanged(a[scored], b[scored], names, tolerance) if differs.any() else None,
        worst=[_row(both.index[i], i, names, a, b) for i in _order(off)[:worst] if differs[i]],
        traits=_traits(looked_at, _Group(id_field, both.index[scored], differs[scored], "differ"), traits),
        unscored_traits=_traits(
            looked_at, _Group(id_field, both.index, ~scored, "have a probability in one file only"), traits
        ),
    )


def _prediction_file(path: Path) -> Path:
    """Return the prediction file of an output folder, in which other tables can lie; any other path as it is."""
    files = [file for format in FORMATS if (file := path / f"{PREDICTIONS}.{format}").is_file()]
    return files[0] if len(files) == 1 else path


def _ids(rows: pd.DataFrame) -> list[str]:
    return [key for key, _ in rows.index]


def _most_probable(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    most: npt.NDArray[np.intp] = np.nan_to_num(values).argmax(axis=1)
    return most


def _order(off: npt.NDArray[np.float64]) -> list[int]:
    """Return the numbers of the rows, the one that differs most first."""
    return np.argsort(-off.max(axis=1), kind="stable").tolist()  # type: ignore[no-any-return]


def _row(
    key: tuple[str, int], row: int, names: Sequence[str], old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]
) -> RowDifference:
    off = np.nan_to_num(np.abs(old[row] - new[row])).round(6)
    most = len(names) - 1 - int(off[::-1].argmax())  # of two classes, whose differences are equal: 1
    return RowDifference(key[0], int(key[1]) + 1, names[most], float(old[row, most]), float(new[row, most]))


def _exchanged(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], names: Sequence[str], tolerance: float
) -> Exchange | None:
    """Return which classes are exchanged; None if the files agree best as they are, or not much better otherwise."""
    if not 2 <= len(names) <= _MOST_CLASSES or len(old) < 2:
        return None
    means = np.array([[np.nan_to_num(np.abs(a - b)).mean() for b in new.T] for a in old.T])
    order = means.argmin(axis=1)
    here = np.arange(len(names))
    if len({*order.tolist()}) < len(names) or means[here, order].sum() > _FITS_BETTER * means[here, here].sum():
        return None
    off = np.nan_to_num(np.abs(old - new[:, order])).max(axis=1)
    columns = {names[i]: names[j] for i, j in enumerate(order.tolist()) if i != j}
    return Exchange(columns, int((off > tolerance).sum()))


@dataclass(frozen=True)
class _Group:
    """Group of the rows that were compared.

    Attributes:
        id_field: Name of the id column.
        keys: Keys of all rows.
        members: Whether each of them is in the group, bool ``[rows]``.
        verb: What the rows of the group do, such as ``"differ"``, for sentences.
    """

    id_field: str
    keys: pd.Index[Any]
    members: npt.NDArray[np.bool_]
    verb: str


def _traits(sources: Sequence[TableSource], group: _Group, most: int) -> Traits:
    """Return what the rows of a group have in common.

    Args:
        sources: Tables with the id. The first that has other columns than the probabilities is looked at.
        group: The group.
        most: Largest number of traits.
    """
    members, verb = group.members, group.verb
    rows, others = int(members.sum()), int((~members).sum())
    nothing = partial(Traits, [], rows, others)
    if not rows:
        return nothing()
    if not others:
        return nothing(f"all rows {verb}: there are no others to compare them with")
    if min(rows, others) < LEAST_ROWS:
        counts = f"{rows:,} row(s) {verb}, {others:,} do not"
        return nothing(f"too few rows to say what those that {verb} have in common: {counts}; {LEAST_ROWS} are needed")
    for source in sources:
        count = Counter(source.columns)
        if columns := [n for n in others_than_probabilities(source) if n != group.id_field and count[n] == 1]:
            return _traits_of(source, columns, group, most)
    return nothing(f"give --data TABLE, the input table, to see what the rows that {verb} have in common")


def _traits_of(source: TableSource, columns: Sequence[str], group: _Group, most: int) -> Traits:
    """Look at some columns of a table; see :func:`_traits`."""
    id_field, members = group.id_field, group.members
    ids = [text for table in tables_of(source, [id_field]) for text in ids_of(table.column(id_field))]
    rows = group.keys.get_indexer(keys_of(ids))  # -1 for a row that one of the prediction files lacks
    inside, outside = (int((members[rows[rows >= 0]] == side).sum()) for side in (True, False))
    if min(inside, outside) < LEAST_ROWS:
        few = f"{source.files[0]} has too few of the ids to say what the rows that {group.verb} have in common"
        return Traits([], inside, outside, few)
    counts = TraitCounts(columns, inside, outside)
    start = 0
    for table in tables_of(source, [id_field, *columns]):
        found = rows[start : start + table.num_rows]
        start += table.num_rows
        known = pa.array(np.flatnonzero(found >= 0))
        for name in columns:
            column = rows_at(table.column(name), known)
            counts.add(name, ids_of(column), column, source.dialect, members[found[found >= 0]])
    nothing = f"nothing in common was found in {source.files[0]}, column(s) {', '.join(columns)}"
    traits = counts.traits()[:most]
    return Traits(traits, inside, outside, "" if traits else nothing)
