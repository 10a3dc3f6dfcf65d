"""Kinds of columns: text, numbers, categories, or nothing that a model should read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.preprocess.features import Imputer
from bsm_core.preprocess.findings import DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS, kind_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.proposal.sampled_rows import MISSING

_MOST_MISSING = 0.95
_MOST_NOT_NUMBERS = 0.01
_TEXT_WORDS, _TEXT_DISTINCT, _TEXT_VALUES = 3.0, 0.3, 20
"""Fewest words of a text on average, smallest share of texts that are different, and fewest different texts."""
_CATEGORIES, _ROWS_PER_CATEGORY, _FEW_CATEGORIES = 1_000, 10, 10
_UNIQUE = 0.95
_NAMED_ID = re.compile(r"(?:^|[\W_])(?:id|uuid|guid|key)$|[a-z]I[dD]$", re.IGNORECASE)
_NAMED_UNIQUE = re.compile(r"(?:^|[\W_])(?:no|nr|number|code|hash|ref|reference)$", re.IGNORECASE)
_ROW_NUMBER = re.compile(r"^(?:unnamed: ?\d+|__index_level_\d+__|level_\d+|index|rownames|row|)$", re.IGNORECASE)
_CODE = re.compile(r"^[\w.:/@#+-]+$")
_DATE = re.compile(
    r"^(?:\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[T ]+\d{1,2}:\d{2}.*)?$"
    r"|^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?$"
)
_TURN = "[bom]"


class ColumnKind(StrEnum):
    """Kind of a column, by what it holds."""

    TEXT = "text"
    NUMBER = "number"
    CATEGORY = "category"
    ID = "id"
    DATE = "date"
    CONSTANT = "constant"
    MISSING = "mostly missing"
    LEAK = "tells the label"
    OTHER = "not used"


@dataclass(frozen=True)
class DescribedColumn:
    """A column and what it holds.

    Attributes:
        name: Name of the column.
        kind: What the column holds.
        why: Reason for the kind, in a few words.
        values: Numbers, NaN where missing, float64 ``[rows]``. In a column of another kind, equal cells have equal
            numbers, from 0.
        length: Mean number of words of a text.
        dialogue: Whether the texts have the markers of turns.
        unique: Whether each row has an id of its own.
    """

    name: str
    kind: ColumnKind
    why: str
    values: npt.NDArray[np.float64]
    length: float = 0.0
    dialogue: bool = False
    unique: bool = False

    def leaking(self, why: str) -> DescribedColumn:
        """Return the column as one that tells the label."""
        return replace(self, kind=ColumnKind.LEAK, why=why)


def describe_column(name: str, column: Column, positions: npt.NDArray[np.int64], dialect: Dialect) -> DescribedColumn:
    """Return what a column holds.

    Args:
        name: Name of the column.
        column: Its cells in the sampled rows.
        positions: Position of each row in the table.
        dialect: Spelling of numbers in text.
    """
    texts = category_texts(column)
    codes = _codes(texts)
    known = [text for text in texts if text != MISSING and text.strip()]
    if isinstance(column, pa.Array | pa.ChunkedArray) and (odd := _odd_type(column.type)):
        return DescribedColumn(name, odd, f"cells of type {column.type}", codes)
    if len(known) < (1 - _MOST_MISSING) * len(texts):
        return DescribedColumn(
            name, ColumnKind.MISSING, f"{_percent(len(texts) - len(known), len(texts))} missing", codes
        )
    distinct = Counter(category_key(text) for text in known)
    if len(distinct) == 1 and len(known) > 0.995 * len(texts):
        return DescribedColumn(name, ColumnKind.CONSTANT, f"always {_short(known[0])}", codes)
    read = Imputer(np.nan).transform(column, dialect)
    values = np.asarray(read.values, np.float64)
    numbers = int((~np.isnan(values)).sum())  # neither a word for a missing number nor another word
    if numbers and len(read.bad) <= _MOST_NOT_NUMBERS * (numbers + len(read.bad)):
        return _number(name, values, len(distinct), positions)
    return _words(name, known, codes, len(distinct), commas=_are_commas([*read.bad.values()], len(known)))


def _odd_type(kind: pa.DataType) -> ColumnKind | None:
    if pa.types.is_temporal(kind):
        return ColumnKind.DATE
    return ColumnKind.OTHER if pa.types.is_nested(kind) and not pa.types.is_union(kind) else None


def _codes(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.float64)


def _number(
    name: str, values: npt.NDArray[np.float64], distinct: int, positions: npt.NDArray[np.int64]
) -> DescribedColumn:
    known = values[~np.isnan(values)]
    missing = f"{_percent(len(values) - len(known), len(values))} missing"
    if len(known) < (1 - _MOST_MISSING) * len(values):
        return DescribedColumn(name, ColumnKind.MISSING, missing, values)
    whole = bool((known == np.round(known)).all())
    steps = np.diff(known)
    if whole and len(known) == len(values) > 2 and distinct == len(known):
        spread = (known[-1] - known[0]) / max(1, positions[-1] - positions[0])
        if (steps > 0).all() and abs(spread - 1) < 0.01:
            return DescribedColumn(name, ColumnKind.ID, "counts the rows", values, unique=True)
        if _NAMED_ID.search(name) or _NAMED_UNIQUE.search(name) or _ROW_NUMBER.match(name):
            return DescribedColumn(name, ColumnKind.ID, "another whole number in each row", values, unique=True)
    if whole and distinct > _FEW_CATEGORIES and (_NAMED_ID.search(name) or _ROW_NUMBER.match(name)):
        return DescribedColumn(name, ColumnKind.ID, f"{distinct:,} whole numbers, and the name of an id", values)
    low, high = (f"{edge:.6g}" for edge in (known.min(), known.max()))
    why = f"{low} to {high}" + (f", {missing}" if len(known) < len(values) else "")
    return DescribedColumn(name, ColumnKind.NUMBER, why, values)


def _words(
    name: str, known: Sequence[str], codes: npt.NDArray[np.float64], distinct: int, *, commas: bool
) -> DescribedColumn:
    """Return what a column holds whose cells are no numbers."""
    share = distinct / len(known)
    if commas:
        why = 'numbers with a decimal comma: with csv_decimal = "," in the config, they can be features'
        return DescribedColumn(name, ColumnKind.OTHER, why, codes)
    if sum(bool(_DATE.match(text.strip())) for text in known) > 0.95 * len(known):
        return DescribedColumn(name, ColumnKind.DATE, "dates or times, which no model class reads", codes)
    words = float(np.mean([len(text.split()) for text in known]))
    if words >= _TEXT_WORDS and share >= _TEXT_DISTINCT and distinct > _TEXT_VALUES:
        turns = sum(_TURN in text for text in known) > 0.1 * len(known)
        return DescribedColumn(name, ColumnKind.TEXT, f"{words:.0f} words on average", codes, words, turns)
    if share > _UNIQUE and distinct > _FEW_CATEGORIES and all(_CODE.match(text.strip()) for text in known):
        return DescribedColumn(name, ColumnKind.ID, "another code in each row", codes, unique=True)
    if distinct <= _FEW_CATEGORIES or distinct <= min(_CATEGORIES, len(known) / _ROWS_PER_CATEGORY):
        return DescribedColumn(name, ColumnKind.CATEGORY, f"{distinct:,} different values", codes)
    why = f"{distinct:,} different values in {len(known):,} rows: too many for a category, too short for a text"
    return DescribedColumn(name, ColumnKind.OTHER, why, codes)


def _are_commas(reasons: Sequence[str], cells: int) -> bool:
    commas = sum(kind_of(reason) in (DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS) for reason in reasons)
    return commas > 0.5 * cells


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.0f} %"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
