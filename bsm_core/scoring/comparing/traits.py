"""Traits: what the cells of some rows have more often than those of the other rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import quoted
from bsm_core.preprocess.cells import spelled_plainly
from bsm_core.preprocess.columns import PANDAS_MISSING
from bsm_core.scoring.comparing.ranges import clearest_range
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import holds_text, plain_values

LEAST_ROWS = 5
"""Number of rows that a group needs before a share of it says something."""
_MOST_VALUES = 1000
"""Largest number of distinct values of a column that is compared by value."""
_MOST_NUMBERS = 1 << 16
"""Largest number of rows of a group whose numbers are in memory, for each column. Of more rows, a sample is."""
_LONGEST_VALUE = 60
_LEAST_GAP = 0.2
"""Difference of two shares from which on a trait is worth a line."""
_DEVIATIONS = 3.0
"""Standard errors of a difference of two shares, above which chance is not its cause."""
_NUMBER = r"^-?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
_LEAST_NUMBERS = 0.9
"""Share of the cells with a value that are numbers in a column of numbers."""
_MISSING = "is missing"


@dataclass(frozen=True)
class Trait:
    """Property of input cells that rows which differ have more often than other rows.

    Attributes:
        column: Name of the column, or the names of several.
        what: The property, such as ``"is missing"``.
        share: Share of the rows that differ which have it.
        others: Share of the other rows which have it.
    """

    column: str
    what: str
    share: float
    others: float

    @property
    def gap(self) -> float:
        """Difference of the two shares."""
        return self.share - self.others


@dataclass(frozen=True)
class Traits:
    """Traits of a group of rows.

    Attributes:
        found: The traits, the clearest first.
        rows: Number of rows of the group of which the cells were found.
        others: Number of the other rows of which the cells were found.
        search: Why there are no traits, as a sentence; empty if there are, or the group has no rows.
    """

    found: list[Trait]
    rows: int
    others: int
    search: str = ""


class TraitCounts:
    """Counts of what the cells of some columns have, in the rows of a group and in the other rows.

    Args:
        columns: Names of the columns.
        members: Number of rows of the group.
        others: Number of the other rows.
    """

    def __init__(self, columns: Sequence[str], members: int, others: int) -> None:
        self._sizes = members, others
        self._columns = {name: _ColumnCounts((members, others)) for name in columns}
        self._members: list[npt.NDArray[np.bool_]] = []

    def add(
        self, name: str, texts: Sequence[str], column: pa.ChunkedArray, dialect: Dialect, members: npt.NDArray[np.bool_]
    ) -> None:
        """Count the cells of some rows.

        Args:
            name: Name of the column.
            texts: Text of each cell.
            column: The cells.
            dialect: Spelling of numbers in text.
            members: Whether each row is one of the group.
        """
        plain = pa.array([text.encode(errors="replace").decode() for text in texts], pa.large_string())
        numbers = plain
        if (dialect.decimal or dialect.thousands) and holds_text(plain_values(column).type):
            numbers = pa.array(spelled_plainly(column, dialect)).cast(pa.large_string())
        self._columns[name].add(plain, numbers, members)

    def traits(self) -> list[Trait]:
        """Return what the rows of the group have more often, the clearest first."""
        found = [trait for name, counts in self._columns.items() for trait in counts.traits(name)]
        if together := self._a_number_is_missing():
            names, one_of_them = together
            found = [trait for trait in found if trait.what != _MISSING or trait.column not in names]
            found.append(one_of_them)
        return sorted(found, key=lambda trait: -trait.gap)

    def _a_number_is_missing(self) -> tuple[list[str], Trait] | None:
        """Return the columns whose missing numbers have one cause, and the trait that a number of them is missing.

        None if a single column says as much.
        """
        gaps = {
            name: missing.gap
            for name, counts in self._columns.items()
            if counts.is_number and (missing := counts.missing(name)) and is_clear(missing, self._sizes, least=0)
        }
        if len(gaps) < 2:
            return None
        members = 0
        rows = 0
        for masks in zip(*(self._columns[name].masks for name in gaps), strict=True):
            inside = [reduce(np.bitwise_or, bits) for bits in zip(*masks, strict=True)]
            members, rows = members + _ones(inside[0]), rows + _ones(inside[1])
        trait = Trait(", ".join(gaps), "a number is missing", members / self._sizes[0], rows / self._sizes[1])
        return ([*gaps], trait) if is_clear(trait, self._sizes) and trait.gap > max(gaps.values()) else None


class _ColumnCounts:
    """Counts of what the cells of a column have.

    Attributes:
        masks: For each block of rows, the bits of the missing cells: of the rows of the group, and of the others.
    """

    def __init__(self, sizes: tuple[int, int]) -> None:
        self._sizes = sizes
        self._found: Counter[tuple[str, bool]] = Counter()
        self._values: Counter[tuple[str, bool]] | None = Counter()
        self._numbers: dict[bool, list[npt.NDArray[np.float64]]] = {True: [], False: []}
        self._rows = {True: 0, False: 0}
        self.masks: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []

    def add(self, texts: pa.Array, numbers: pa.Array, members: npt.NDArray[np.bool_]) -> None:
        missing = pc.is_in(texts, value_set=pa.array(PANDAS_MISSING, pa.large_string()))
        marked = pc.match_substring(texts, "[bom]")
        is_number = pc.match_substring_regex(numbers, _NUMBER)
        found = {
            _MISSING: missing,
            "has characters beyond ASCII": pc.invert(pc.string_is_ascii(texts)),
            "has < or &": pc.match_substring_regex(texts, "[<&]"),
            "has [bom]": marked,
            "is text without [bom]": pc.invert(pc.or_(marked, missing)),
            "is a number": is_number,
        }
        masks = {what: np.asarray(mask, bool) for what, mask in found.items()}
        for what, mask in masks.items():
            for side in (True, False):
                self._found[what, side] += int(np.count_nonzero(mask[members == side]))
        inside, outside = (np.packbits(masks[_MISSING][members == side]) for side in (True, False))
        self.masks.append((inside, outside))
        self._sample(np.asarray(pc.if_else(is_number, numbers, None).cast(pa.float64()), np.float64), members)
        if self._values is not None:
            self._values.update(zip(texts.to_pylist(), members.tolist(), strict=True))
            if len(self._values) > 2 * _MOST_VALUES:  # no categories
                self._values = None

    def _sample(self, numbers: npt.NDArray[np.float64], members: npt.NDArray[np.bool_]) -> None:
        """Keep the numbers of every n-th row of each group, NaN for a cell that is none."""
        for side, size in zip((True, False), self._sizes, strict=True):
            rows = numbers[members == side]
            step = ceil(size / _MOST_NUMBERS)
            self._numbers[side].append(rows[-self._rows[side] % step :: step].copy())
            self._rows[side] += len(rows)

    @property
    def is_number(self) -> bool:
        """Whether this is a column of numbers."""
        missing, numbers = (self._found[what, True] + self._found[what, False] for what in (_MISSING, "is a number"))
        return numbers > 0 and numbers >= _LEAST_NUMBERS * (sum(self._sizes) - missing)

    def missing(self, column: str) -> Trait:
        """Return how often the column is missing."""
        return self._trait(column, _MISSING, self._found)

    def traits(self, column: str) -> list[Trait]:
        """Return what the rows of the group have more often."""
        found = Counter({key: n for key, n in self._found.items() if key[0] != "is a number"})
        if not any(found["has [bom]", side] for side in (True, False)):  # no column of dialogues
            found = Counter({key: n for key, n in found.items() if "[bom]" not in key[0]})
        values = {
            (f"is {quoted(text)}", side): n
            for (text, side), n in (self._values or {}).items()
            if 0 < len(text) <= _LONGEST_VALUE
        }
        of_values = [*self._clear(column, Counter(values))]
        if self.is_number and (span := self._range(column)):
            best = max((trait.gap for trait in of_values), default=0.0)
            of_values = [span] if span.gap > best else of_values
        return [*self._clear(column, found), *of_values]

    def _clear(self, column: str, counts: Counter[tuple[str, bool]]) -> Iterator[Trait]:
        for what in dict.fromkeys(what for what, side in counts if side):
            trait = self._trait(column, what, counts)
            if is_clear(trait, self._sizes):
                yield trait

    def _trait(self, column: str, what: str, counts: Counter[tuple[str, bool]]) -> Trait:
        members, others = self._sizes
        return Trait(column, what, counts[what, True] / members, counts[what, False] / others)

    def _range(self, column: str) -> Trait | None:
        members, others = (np.concatenate(self._numbers[side]) for side in (True, False))
        span = clearest_range(members, others)
        trait = Trait(column, span.what, span.share, span.others) if span else None
        return trait if trait and trait.gap >= _LEAST_GAP else None


def is_clear(trait: Trait, sizes: tuple[int, int], least: float = _LEAST_GAP) -> bool:
    """Return whether the shares of a trait differ by more than ``least``, and by more than chance makes them differ.

    Args:
        trait: The trait.
        sizes: Number of rows of the group, and of the others.
        least: Least difference.
    """
    members, others = sizes
    share = (trait.share * members + trait.others * others) / (members + others)
    error = sqrt(share * (1 - share) * (1 / members + 1 / others))
    return trait.gap > 0 and trait.gap >= max(least, _DEVIATIONS * error)


def _ones(bits: npt.NDArray[np.uint8]) -> int:
    return int(np.unpackbits(bits).sum())
