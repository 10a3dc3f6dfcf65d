"""Joining the rows of two tables on their ids, and why ids of one of them have no partner."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"([+-]?)([0-9]+)(?:\.0*)?")
_SCIENTIFIC = re.compile(r"[+-]?[0-9]\.[0-9]{1,20}[eE]\+[0-9]{1,2}")  # as pandas and spreadsheets write it
_WHOLE = re.compile(r"[+-]?[0-9]{1,100}")


@dataclass(frozen=True)
class Repeats:
    """Ids that occur more than once in a file.

    Attributes:
        ids: Number of these ids.
        rows: Number of rows with these ids.
        example: Id with the most rows; empty if no id occurs more than once.
    """

    ids: int
    rows: int
    example: str


@dataclass(frozen=True)
class Uneven:
    """Ids that both files have, one of them in more rows than the other.

    Attributes:
        ids: Number of these ids.
        example: First of these ids.
        old: Number of its rows in the old file.
        new: Number of its rows in the new file.
    """

    ids: int
    example: str
    old: int
    new: int


@dataclass(frozen=True)
class Spelling:
    """Ids of which each file has another spelling.

    Attributes:
        what: Difference of the spellings.
        rows: Number of rows that only one file has, and that have a partner when this difference does not count.
        old: Example of an id of the old file.
        new: Its partner in the new file.
    """

    what: str
    rows: int
    old: str
    new: str


def _as_number(text: str) -> str:
    found = _NUMBER.fullmatch(text)
    return f"{found[1].strip('+')}{found[2].lstrip('0') or '0'}" if found else text


_SPELLINGS: dict[str, Callable[[str], str]] = {
    "leading zeros (or a trailing .0)": _as_number,
    "white space around them": str.strip,
    "upper and lower case": str.casefold,
}
"""Differences of spelling, each with the function that removes it."""


def keys_of(ids: Sequence[str]) -> pd.MultiIndex:
    """Return the id of each row and the number of earlier rows with this id."""
    import pandas as pd

    frame = pd.DataFrame({"id": pd.Series(ids, dtype=object)})
    return pd.MultiIndex.from_arrays([frame["id"], frame.groupby("id").cumcount()], names=["id", "nth"])


def join(old: Sequence[str], new: Sequence[str]) -> pd.DataFrame:
    """Return the number of each row in the two files, NaN where a file lacks it; the index has the keys of the rows."""
    import pandas as pd

    numbers = [
        pd.Series(np.arange(len(ids), dtype=float), index=keys_of(ids), name=side)
        for ids, side in ((old, "old"), (new, "new"))
    ]
    joined: pd.DataFrame = pd.concat(numbers, axis=1)
    return joined


def repeats_of(keys: pd.Index[Any]) -> Repeats:
    """Return what ids occur more than once, given the keys of all rows of a file."""
    again = keys[keys.get_level_values("nth") > 0]
    counts = again.get_level_values("id").value_counts()
    if not len(counts):
        return Repeats(0, 0, "")
    return Repeats(len(counts), len(counts) + len(again), str(counts.index[0]))


def uneven_ids(joined: pd.DataFrame) -> Uneven | None:
    """Return the ids that both files have, in different numbers of rows; None if there is none."""
    further = joined[(joined.index.get_level_values("nth") > 0) & joined.isna().any(axis=1)]
    ids = further.index.get_level_values("id").unique()
    rows = joined[joined.index.get_level_values("id").isin(ids)].groupby(level="id", sort=False).count()
    rows = rows[(rows > 0).all(axis=1)]
    if not len(rows):
        return None
    first = rows.iloc[0]
    return Uneven(len(rows), str(rows.index[0]), int(first["old"]), int(first["new"]))


def spelled_otherwise(only_old: Sequence[str], only_new: Sequence[str]) -> list[Spelling]:
    """Return how the ids that only one of the files has differ from those that only the other has."""
    found = [_spelling(what, plain, only_old, only_new) for what, plain in _SPELLINGS.items()]
    rounded_old, rounded_new = ([text for text in ids if _SCIENTIFIC.fullmatch(text)] for ids in (only_old, only_new))
    if rounded := [*rounded_old, *rounded_new]:
        digits = max(len(text.upper().partition("E")[0].partition(".")[2]) for text in rounded)
        whole = [text for text in only_old if not _SCIENTIFIC.fullmatch(text)]
        for old, new in ((rounded_old, only_new), (whole, rounded_new)):
            found.append(
                _spelling("scientific notation, which rounds them", partial(_rounded, digits=digits), old, new)
            )
    return [spelling for spelling in found if spelling]


def _rounded(text: str, digits: int) -> str:
    """Return a whole number in scientific notation with some digits after the point, and another text as it is."""
    return f"{Decimal(text):.{digits}e}" if _SCIENTIFIC.fullmatch(text) or _WHOLE.fullmatch(text) else text


def _spelling(what: str, plain: Callable[[str], str], old: Sequence[str], new: Sequence[str]) -> Spelling | None:
    """Return the ids that are equal once a function has removed a difference of spelling; None if there are none."""
    both = Counter(map(plain, old)) & Counter(map(plain, new))
    if not both:
        return None
    partners = {plain(text): text for text in reversed(new)}
    example = next(text for text in old if plain(text) in both)
    return Spelling(what, both.total(), example, partners[plain(example)])
