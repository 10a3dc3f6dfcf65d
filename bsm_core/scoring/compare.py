"""Comparing two prediction files: which rows differ, by how much, and what these rows have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import DataError, UsageError
from bsm_core.preprocess.columns import PANDAS_MISSING, text_values
from bsm_core.preprocess.features import Imputer
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import holds_text, plain_values
from bsm_core.tables.read import TableSource

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-5
"""Difference up to which two probabilities are the same, which is what bsm promises for all devices and backends."""
_PREFIX = "prob_class_"
_MOST_VALUES = 1000
"""Largest number of distinct values of a column that is compared by value."""
_LONGEST_VALUE = 60
_LEAST_GAP = 0.2
"""Difference of two shares from which on a trait is worth a line."""


@dataclass(frozen=True)
class RowDifference:
    """Probability that differs most in one row.

    Attributes:
        id: Id of the row, as text.
        column: Name of the probability column.
        old: Probability in the old file; NaN if it has none.
        new: Probability in the new file; NaN if it has none.
    """

    id: str
    column: str
    old: float
    new: float


@dataclass(frozen=True)
class Trait:
    """Property of input cells that rows which differ have more often than other rows.

    Attributes:
        column: Name of the column.
        what: The property, such as ``"is missing"``.
        share: Share of the rows that differ which have it.
        others: Share of the other rows which have it.
    """

    column: str
    what: str
    share: float
    others: float


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        rows: Number of rows with an id of both files.
        only_old: Ids that only the old file has, in its order. The second row of an id is another id than the first.
        only_new: Ids that only the new file has, in its order.
        differing: Number of rows in which a probability differs by more than the tolerance.
        other_class: Number of rows in which another class is the most probable.
        median: Median of the largest difference of each row that differs; 0 if none does.
        largest: Largest difference of all rows. Infinite if only one of the files has a probability.
        worst: The rows that differ most, the first most of all.
        traits: What the rows that differ have in common, the clearest first.
    """

    rows: int
    only_old: list[str]
    only_new: list[str]
    differing: int
    other_class: int
    median: float
    largest: float
    worst: list[RowDifference]
    traits: list[Trait]

    @property
    def is_same(self) -> bool:
        """Whether both files have the same ids, and no row differs."""
        return not (self.differing or self.only_old or self.only_new)


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
        new: Another one. Formats and orders of rows may differ.
        id_field: Name of the id column. None: the first column of ``new``.
        data: Table with the id and the columns in which traits are looked for. None: ``old`` if it has such columns,
            else ``new``.
        dialect: Dialect of ``data``, if it is CSV or TSV. The prediction files are plain, but may have decimal commas.
        tolerance: Largest difference of two equal probabilities.
        worst: Largest number of rows to return.
        traits: Largest number of traits to return.

    Raises:
        UsageError: The files have no probability columns, or other ones.
        MissingColumnsError: A file has no id column.
        DataError: A file cannot be read, or a probability is not a number.
    """
    import pandas as pd

    sources = [TableSource.open(path) for path in (old, new)]
    looked_at = [TableSource.open(data, dialect=dialect)] if data else sources
    id_field = id_field or sources[1].columns[0]
    names = _probability_columns(*sources)
    ids, probabilities = zip(*(_read(source, id_field, names) for source in sources), strict=True)
    joined = _join(*ids)
    both = joined.dropna()
    rows = [both[side].to_numpy(np.int64) for side in ("old", "new")]
    a, b = (values[at] for values, at in zip(probabilities, rows, strict=True))
    off = _differences(a, b)
    differs = off.max(axis=1) > tolerance
    order = np.argsort(-off.max(axis=1), kind="stable")[:worst]
    most = len(names) - 1 - off.round(6)[:, ::-1].argmax(axis=1)  # of two classes, whose differences are equal: 1
    return Comparison(
        rows=len(both),
        only_old=_ids(joined[joined["new"].isna()].sort_values("old")),
        only_new=_ids(joined[joined["old"].isna()].sort_values("new")),
        differing=int(differs.sum()),
        other_class=int((np.nan_to_num(a).argmax(axis=1) != np.nan_to_num(b).argmax(axis=1)).sum()),
        median=float(np.median(off.max(axis=1)[differs])) if differs.any() else 0.0,
        largest=float(off.max(initial=0.0)),
        worst=[
            RowDifference(both.index[i][0], names[most[i]], float(a[i, most[i]]), float(b[i, most[i]]))
            for i in order.tolist()
            if differs[i]
        ],
        traits=_traits(looked_at, id_field, names, pd.Series(differs, index=both.index))[:traits],
    )


def _probability_columns(old: TableSource, new: TableSource) -> list[str]:
    found = [[name for name in source.columns if name.startswith(_PREFIX)] for source in (old, new)]
    if not found[0] or set(found[0]) != set(found[1]):
        details, fix = [], f"compare prediction files of one model; the names of the columns are {_PREFIX}0 and so on"
        for source, names in zip((old, new), found, strict=True):
            hints = source.other_delimiter()
            details += [f"{source.files[0]}: {', '.join(names) or 'none'}", *hints]
            if hints:
                fix = "convert such a file first: bsm convert --csv-delimiter ... FILE plain.csv"
        raise UsageError("the files do not have the same probability columns", details=details, fix=fix)
    return found[0]


def _read(source: TableSource, id_field: str, names: Sequence[str]) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return the id of each row, as text, and the probabilities ``[rows, classes]``."""
    ids: list[str] = []
    blocks = [np.empty((0, len(names)))]
    for window in _windows(source, id_field, names):
        ids += _texts(window.column(id_field))
        columns = [Imputer(np.nan).transform(column, _spelling(column)) for column in map(window.column, names)]
        for name, column in zip(names, columns, strict=True):
            if column.bad:
                row, reason = next(iter(column.bad.items()))
                where = f"{source.files[0]}: column {name!r}, id {ids[len(ids) - window.num_rows + row]!r}"
                raise DataError(f"a probability cannot be used: {reason}", where=where)
        blocks.append(np.stack([column.values for column in columns], axis=1).astype(np.float64))
    return ids, np.concatenate(blocks)


def _spelling(column: pa.ChunkedArray) -> Dialect:
    """Return the spelling of a column of probabilities. None of them has a thousand, so a comma is a decimal point."""
    column = plain_values(column)
    if not holds_text(column.type):
        return Dialect()
    has_comma = pc.any(pc.match_substring(column.cast(pa.large_binary()), ",")).as_py()
    return Dialect(decimal="," if has_comma else None)


def _windows(source: TableSource, id_field: str, names: Sequence[str]) -> Iterator[pa.Table]:
    source.require({id_field: "--id-field"})
    return (window.table for window in source.windows([id_field, *names], rows=1 << 16))


def _texts(column: pa.ChunkedArray) -> list[str]:
    texts, bad = text_values(column)
    cells = {row: column[row].as_py() for row in bad}
    return [str(cells[row]) if row in cells else text for row, text in enumerate(texts)] if bad else texts


def _keys(ids: Sequence[str]) -> pd.MultiIndex:
    """Return the id of each row and the number of earlier rows with this id."""
    import pandas as pd

    frame = pd.DataFrame({"id": pd.Series(ids, dtype=object)})
    return pd.MultiIndex.from_arrays([frame["id"], frame.groupby("id").cumcount()], names=["id", "nth"])


def _join(old: Sequence[str], new: Sequence[str]) -> pd.DataFrame:
    """Return the number of each row in the two files, NaN where a file lacks it; the index has the keys of the rows."""
    import pandas as pd

    numbers = [
        pd.Series(np.arange(len(ids), dtype=float), index=_keys(ids), name=side)
        for ids, side in ((old, "old"), (new, "new"))
    ]
    joined: pd.DataFrame = pd.concat(numbers, axis=1)
    return joined


def _ids(rows: pd.DataFrame) -> list[str]:
    return [key for key, _ in rows.index]


def _differences(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the absolute differences: 0 where both are NaN, infinite where one is."""
    off = np.abs(old - new)
    off[np.isnan(off)] = np.inf
    off[np.isnan(old) & np.isnan(new)] = 0.0
    return off


class _TraitCounts:
    """Counts of what the cells of a column have, in the rows that differ and in the others."""

    def __init__(self) -> None:
        self._found: Counter[tuple[str, bool]] = Counter()
        self._values: Counter[tuple[str, bool]] | None = Counter()

    def add(self, column: pa.ChunkedArray, differs: npt.NDArray[np.bool_]) -> None:
        """Count some rows."""
        texts = pa.array([text.encode(errors="replace").decode() for text in _texts(column)], pa.large_string())
        missing = pc.is_in(texts, value_set=pa.array(PANDAS_MISSING, pa.large_string()))
        marked = pc.match_substring(texts, "[bom]")
        found = {
            "is missing": missing,
            "has characters beyond ASCII": pc.invert(pc.string_is_ascii(texts)),
            "has < or &": pc.match_substring_regex(texts, "[<&]"),
            "has [bom]": marked,
            "is text without [bom]": pc.invert(pc.or_(marked, missing)),
        }
        for what, mask in found.items():
            for side in (True, False):
                self._found[what, side] += int(np.count_nonzero(mask.to_numpy(zero_copy_only=False)[differs == side]))
        if self._values is not None:
            self._values.update(zip(texts.to_pylist(), differs.tolist(), strict=True))
            if len(self._values) > 2 * _MOST_VALUES:  # no categories
                self._values = None

    def traits(self, column: str, differing: int, others: int) -> Iterator[Trait]:
        """Return what the rows that differ have more often."""
        found = self._found
        if not any(found["has [bom]", side] for side in (True, False)):  # no column of dialogues
            found = Counter({key: n for key, n in found.items() if "[bom]" not in key[0]})
        values = {
            (f"is {text!r}", side): n
            for (text, side), n in (self._values or {}).items()
            if 0 < len(text) <= _LONGEST_VALUE
        }
        for counts in (found, values):
            for what in dict.fromkeys(what for what, side in counts if side):
                trait = Trait(column, what, counts[what, True] / differing, counts.get((what, False), 0) / others)
                if trait.share - trait.others >= _LEAST_GAP:
                    yield trait


def _traits(
    sources: Sequence[TableSource], id_field: str, names: Sequence[str], differs: pd.Series[bool]
) -> list[Trait]:
    """Return what the rows that differ have in common, the clearest trait first; nothing if all rows differ or none.

    Args:
        sources: Tables with the id. The first that has other columns than the probabilities is looked at.
        id_field: Name of the id column.
        names: Names of the probability columns.
        differs: Whether a row differs, by its key.
    """
    differing, others = int(differs.sum()), int((~differs).sum())
    if not differing or not others:
        return []
    for source in sources:
        if columns := [name for name in source.columns if name not in (id_field, *names)]:
            break
    else:
        return []
    ids = [text for table in _windows(source, id_field, []) for text in _texts(table.column(id_field))]
    rows = differs.index.get_indexer(_keys(ids))  # -1 for a row that one of the prediction files lacks
    counts = {name: _TraitCounts() for name in columns}
    start = 0
    for table in _windows(source, id_field, columns):
        found = rows[start : start + table.num_rows]
        start += table.num_rows
        known = pa.array(np.flatnonzero(found >= 0))
        for name in columns:
            counts[name].add(table.column(name).take(known), differs.to_numpy()[found[found >= 0]])
    traits = [trait for name in columns for trait in counts[name].traits(name, differing, others)]
    return sorted(traits, key=lambda trait: trait.others - trait.share)
