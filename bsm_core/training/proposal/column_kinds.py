"""Kinds of columns: text, numbers, categories, or nothing that a model should read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.preprocess.cells import Column, category_key, category_texts
from bsm_core.preprocess.features import Imputer
from bsm_core.preprocess.findings import COMMA, DECIMAL_COMMA, DECIMAL_COMMA_AND_GROUPS, kind_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.proposal.leaks import ToldLabels
from bsm_core.training.proposal.sampled_rows import MISSING

_MOST_MISSING = 0.95
_MOST_NOT_NUMBERS, _MANY_NUMBERS = 0.01, 0.8
"""Share of cells that are no numbers that any number may have; share of numbers of a column with many of them."""
_PADDED, _DIGITS = 0.01, 0.8
"""Shares of cells with leading zeros, and of digits alone, from which whole numbers are codes."""
_TEXT_WORDS, _TEXT_DISTINCT, _TEXT_VALUES = 3.0, 0.3, 20
"""Fewest words of a text on average, smallest share of texts that are different, and fewest different texts."""
_CATEGORIES, _ROWS_PER_CATEGORY, _FEW_CATEGORIES = 1_000, 10, 10
_UNIQUE = 0.95
_NAMED_ID = re.compile(r"(?:^|[\W_])(?:id|uuid|guid|key)$|[a-z]I[dD]$", re.IGNORECASE)
_NAMED_UNIQUE = re.compile(r"(?:^|[\W_])(?:no|nr|number|code|hash|ref|reference)$", re.IGNORECASE)
_ROW_NUMBER = re.compile(r"^(?:unnamed: ?\d+|__index_level_\d+__|level_\d+|index|rownames|row|)$", re.IGNORECASE)
_CODE = re.compile(r"^[\w.:/@#+-]+$")
_LEADING_ZERO = re.compile(r"^0\d+$")
_CURRENCY = r"(?:[A-Z]{0,3}[$€£¥₹]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD)"
_PLAIN = r"[-+]?\d[\d,.'\u2019 ]*"
_AMOUNT = re.compile(rf"^[-+(]?{_CURRENCY} ?{_PLAIN}\)?$|^\(?{_PLAIN}(?:%|{_CURRENCY})\)?$")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"^(?:(?:[a-z]{3,9},? )?(?:\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|\d{{1,2}}(?:\.|st|nd|rd|th)?[ -]{_MONTH}[ ,-]+\d{{2,4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{2,4}}))"
    r"(?:,?[T ]+\d{1,2}:\d{2}.*)?$"
    r"|^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?$",
    re.IGNORECASE,
)
_MOST_DATES = 0.8
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
        missing: Whether cells of a number lack one.
        hint: Text for the caller about a column that the model reads; empty for none.
    """

    name: str
    kind: ColumnKind
    why: str
    values: npt.NDArray[np.float64]
    length: float = 0.0
    dialogue: bool = False
    unique: bool = False
    missing: bool = False
    hint: str = ""

    def telling(self, told: ToldLabels) -> DescribedColumn:
        """Return this column with how well it alone tells the label, so well that it may be known only afterwards."""
        if told.is_label:
            share = f"{100 * told.accuracy:.1f} % of held-out rows"
            why = f"alone, it gives the label of {share} (AUROC {told.auroc:.3f})"
            return replace(self, kind=ColumnKind.LEAK, why=why)
        hint = f"alone, it ranks the labels at AUROC {told.auroc:.3f}: leave it out if it is known only after the label"
        return replace(self, hint="; ".join(filter(None, (self.hint, hint))))


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
    if _are_codes(known):
        return _padded(_words(name, known, codes, len(set(known))))
    read = Imputer(np.nan).transform(column, dialect)
    values = np.asarray(read.values, np.float64)
    numbers = int((~np.isnan(values)).sum())  # neither a word for a missing number nor another word
    most = 1 - _MANY_NUMBERS if len(distinct) > _FEW_CATEGORIES else _MOST_NOT_NUMBERS
    if numbers and len(read.bad) <= most * (numbers + len(read.bad)):
        found = _number(name, values, len(distinct), positions)
        return found if found.kind is not ColumnKind.NUMBER else replace(found, hint=_no_numbers(read.bad, texts))
    return _words(name, known, codes, len(distinct), _spelling(read.bad, texts))


def _are_codes(known: Sequence[str]) -> bool:
    """Return whether texts are whole numbers of which some have leading zeros, such as zip codes."""
    padded = sum(bool(_LEADING_ZERO.match(text.strip())) for text in known)
    return padded > _PADDED * len(known) and sum(text.strip().isdigit() for text in known) > _DIGITS * len(known)


def _padded(found: DescribedColumn) -> DescribedColumn:
    """Return a column of codes with leading zeros, which an id may have without another in each row."""
    if found.kind is ColumnKind.CATEGORY and _NAMED_ID.search(found.name):
        found = replace(found, kind=ColumnKind.ID)
    return replace(found, why=f"{found.why}, with leading zeros")


def _no_numbers(bad: Mapping[int, str], texts: Sequence[str]) -> str:
    """Return a hint about cells of a number that are none."""
    if not bad:
        return ""
    words = Counter(texts[row] for row in bad)
    shown = ", ".join(f"{_short(text)} ({count:,})" for text, count in words.most_common(3))
    share = f"{100 * len(bad) / len(texts):.2g} % of the cells are no numbers, and are taken as missing"
    more = ", ..." if len(words) > 3 else ""
    spelling = _spelling(bad, texts)
    return f"{share}: {shown}{more}" + (f"; {spelling}" if spelling else "")


def _spelling(bad: Mapping[int, str], texts: Sequence[str]) -> str:
    """Return how the cells that are no numbers are spelled, if they are numbers otherwise; empty if they are not.

    Args:
        bad: Why a cell is no number, by row.
        texts: Text of each cell.
    """
    most, kinds = 0.8 * len(bad), Counter(kind_of(reason) for reason in bad.values())
    if kinds[DECIMAL_COMMA] + kinds[DECIMAL_COMMA_AND_GROUPS] > most:
        return 'numbers with a decimal comma: with csv_decimal = "," in the config, they can be features'
    if kinds[COMMA] > most:
        return 'numbers with commas: with csv_thousands = "," (or csv_decimal = ",") they can be features'
    amounts = [texts[row] for row in bad if _AMOUNT.match(texts[row].strip())]
    if len(amounts) > most:
        return f"amounts such as {_short(amounts[0])}, which can be features once they are plain numbers"
    return ""


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
    return DescribedColumn(name, ColumnKind.NUMBER, why, values, missing=len(known) < len(values))


def _words(
    name: str, known: Sequence[str], codes: npt.NDArray[np.float64], distinct: int, numbers: str = ""
) -> DescribedColumn:
    """Return what a column holds whose cells are no numbers that bsm reads.

    Args:
        name: Name of the column.
        known: Texts of the cells that are not missing.
        codes: Number of the text of each row.
        distinct: Number of different texts.
        numbers: What the texts are, if they are numbers that bsm does not read.
    """
    share = distinct / len(known)
    if sum(bool(_DATE.match(text.strip())) for text in known) > _MOST_DATES * len(known):
        why = f"dates or times such as {_short(known[0])}, which no model class reads"
        return DescribedColumn(name, ColumnKind.DATE, why, codes)
    words = float(np.mean([len(text.split()) for text in known]))
    if not numbers and words >= _TEXT_WORDS and share >= _TEXT_DISTINCT and distinct > _TEXT_VALUES:
        turns = sum(_TURN in text for text in known) > 0.1 * len(known)
        return DescribedColumn(name, ColumnKind.TEXT, f"{words:.0f} words on average", codes, words, turns)
    if numbers and distinct > _FEW_CATEGORIES:
        return DescribedColumn(name, ColumnKind.OTHER, numbers, codes)
    if share > _UNIQUE and distinct > _FEW_CATEGORIES and all(_CODE.match(text.strip()) for text in known):
        return DescribedColumn(name, ColumnKind.ID, "another code in each row", codes, unique=True)
    if distinct <= _FEW_CATEGORIES or distinct <= min(_CATEGORIES, len(known) / _ROWS_PER_CATEGORY):
        return DescribedColumn(name, ColumnKind.CATEGORY, f"{distinct:,} different values", codes)
    why = f"{distinct:,} different values in {len(known):,} rows: too many for a category, too short for a text"
    return DescribedColumn(name, ColumnKind.OTHER, why, codes)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.0f} %"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
