"""Findings: faulty cells and rows of a window, which do not stop a run, and the log lines about them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bsm_core.errors import printable, quoted
from bsm_core.tables.bad_lines import BadLine
from bsm_core.tables.cell_values import value_text
from bsm_core.tables.data_files import DELIMITERS, SourceFormat

log = logging.getLogger("bsm")

READ = "read"
"""Stage of an issue with a cell of a text column that is not text."""
FEATURE = "feature"
"""Stage of an issue with a cell of a feature."""
MAGNITUDE = "magnitude"
"""Stage of a number whose magnitude training never saw, which is no issue."""
MODEL = "model"
"""Stage of an issue with a row for which the model class fails."""
NO_CATEGORY = "not a category"
"""End of the reasons why a cell of a feature with a risk table cannot be looked up."""
DECIMAL_COMMA = "number with a decimal comma"
"""Reason why a cell such as ``39,5`` is no number: its decimal point is a comma."""
DECIMAL_COMMA_AND_GROUPS = "number with a decimal comma and groups of digits"
"""Reason why a cell such as ``1.234,50`` is no number."""
COMMA = "number with a comma"
"""Reason why a cell such as ``1,234`` is no number: its comma is a decimal point or stands between groups of digits."""
TOO_LONG = "text longer than"
"""Beginning of the reason why a text is cut."""
BAD_ROWS = "bad_rows"
"""Count of the rows that have an issue."""
MODEL_ROWS = "model:rows"
"""Count of the rows for which the model class fails."""
POINTS = "points"
"""Count, by column, of numbers in text with a decimal point, in windows in which other cells have a comma."""
LINES = "lines:left out"
"""Count of the lines that were left out because they cannot be read as rows."""
ESCAPES = "escapes:cells"
"""Count of the quoted cells of CSV in which a backslash seems to escape a quote."""
LOOSE_QUOTES = "quotes:cells"
"""Count of the quoted cells of CSV in which other text follows the quote that ends their quotes."""
MISSING_IDS, REPEATED_IDS = "ids:missing", "ids:repeated"
"""Counts of ids that are null or empty, and of rows whose id an earlier row has."""
ALTERED_PARTS = "parts:altered"
"""Count of the parts of earlier attempts that were torn or altered, and were computed again."""

_VALUE_CHARS, _REASON_CHARS, _COLUMNS_NAMED = 200, 500, 5
_SHARE_OF_DECIMALS, _SHARE_OF_COMMAS = 0.05, 0.25
"""Least shares of numbers with a comma, among the cells of a column that are not missing, of which advice is given."""
_COMMA_ADVICE = {
    DECIMAL_COMMA: "seem to have a decimal comma: give --csv-decimal ',', or the key csv_decimal in the config",
    DECIMAL_COMMA_AND_GROUPS: "seem to have a decimal comma and groups of digits: give --csv-decimal ',' and"
    " --csv-thousands '.', or what stands between the groups; or the keys csv_decimal and csv_thousands in the config",
    COMMA: "have commas: give --csv-thousands ',' if '1,234' is 1234, or --csv-decimal ',' if it is 1.234; or the key"
    " csv_thousands or csv_decimal in the config",
}
_COMMA_ADVICE_IN_PYTHON = {
    DECIMAL_COMMA: "seem to have a decimal comma: pass numbers and not text, or set csv_decimal in the artifact's"
    " config",
    DECIMAL_COMMA_AND_GROUPS: "seem to have a decimal comma and groups of digits: pass numbers and not text, or set"
    " csv_decimal and csv_thousands in the artifact's config",
    COMMA: "have commas: pass numbers and not text; or, in the artifact's config, set csv_thousands if '1,234' is 1234,"
    " or csv_decimal if it is 1.234",
}
_WARNINGS = {
    "text": "column %r: {:,.0f} text(s) taken as empty or cut",
    "number": "column %r: {:,.0f} cell(s) that cannot be used",
    "hook": "observer %r failed {:,.0f} time(s)",
}
_ROW_WARNINGS = {
    MODEL_ROWS: "{:,.0f} row(s) without probabilities",
    LINES: "{:,.0f} line(s) left out",
    ESCAPES: r"{:,.0f} quoted cell(s) hold \" and lost the quotes there; if \" stands for a quote, as Spark writes it,"
    r" give --csv-escape '\', or the key csv_escape in the config",
    LOOSE_QUOTES: '{:,.0f} quoted cell(s) go on after a quote that ends their quotes, as "a "b" c" does, which is read'
    ' as a b" c"; if quotes are part of these cells, double them',
    MISSING_IDS: "{:,.0f} row(s) have no id",
    REPEATED_IDS: "{:,.0f} row(s) have the id of an earlier row",
    ALTERED_PARTS: "{:,.0f} part(s) of earlier attempts were torn or altered, and computed again",
}
_WITH_ADVICE = (ESCAPES, LOOSE_QUOTES, ALTERED_PARTS)
"""Counts of which more is said than how many there are."""
_NOTES = {
    "missing": "missing values",
    "unseen": "categories that the risk tables do not have",
    MAGNITUDE: "numbers whose magnitude training never saw",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """Fault of an input row. The row is in the output all the same.

    Attributes:
        row: Position of the row in the window or in the data, from 0.
        column: Column of the cell that is at fault; empty if the whole row is.
        stage: Where the fault was found: ``"read"`` (a cell of a text column that is not text), the name of a text
            step, ``"feature"`` or ``"model"``.
        reason: Description of the fault.
        value: Text of the cell, at most 200 characters; None if the whole row is at fault.

    Example:
        List what was wrong with rows::

            issues: list[Issue] = []
            Predictor.from_artifact("model.tar.gz").predict(rows, on_issue=issues.append)
            for issue in issues:
                print(issue.row, issue.column, issue.reason)
    """

    row: int
    column: str
    stage: str
    reason: str
    value: str | None = None

    @classmethod
    def of(cls, row: int, column: str, stage: str, reason: str, value: object = None) -> Issue:
        """Return an issue with the text of ``value``. Long texts are cut."""
        return cls(row, column, stage, _storable(reason)[:_REASON_CHARS], None if value is None else _shown(value))

    @property
    def kind(self) -> str:
        """Reason without its details: there are few kinds, however many rows there are."""
        return kind_of(self.reason)


@dataclass(frozen=True)
class CategoryCounts:
    """How often each category of a column occurs.

    Attributes:
        known: Counts of categories of the risk table, by the table's spelling.
        unseen: Counts of categories that the risk table does not have, by their text.
    """

    known: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, found: Iterable[tuple[str, int, bool]]) -> CategoryCounts | None:
        """Return the counts of categories, each with its count and whether the table has it; None without any."""
        counts = cls()
        for name, times, is_known in found:
            (counts.known if is_known else counts.unseen)[name] += times
        return counts if counts.known or counts.unseen else None

    @classmethod
    def sum(cls, parts: Iterable[CategoryCounts | None]) -> CategoryCounts | None:
        """Return the counts of several parts of a column; None if no part has any."""
        found = [part for part in parts if part is not None]
        joined = cls(sum((p.known for p in found), Counter()), sum((p.unseen for p in found), Counter()))
        return joined if found else None


@dataclass(frozen=True)
class Findings:
    """Faults of one window.

    Attributes:
        issues: All issues, by row and then by column.
        seen: Counts that are no issues: ``"missing:<column>"``, ``"unseen:<column>"``, ``"magnitude:<column>"`` and
            ``"points:<column>"``, without zeros.
        bad_lines: Lines that were left out, each with the number of rows of the window that come before it.
        examples: For each column with numbers whose magnitude training never saw, the first one.
        categories: How often each category occurs, for each feature with a risk table.
    """

    issues: Sequence[Issue] = ()
    seen: Mapping[str, int] = field(default_factory=dict)
    bad_lines: Sequence[tuple[int, BadLine]] = ()
    examples: Sequence[Issue] = ()
    categories: Mapping[str, CategoryCounts] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """Return the counts of the window, without zeros.

        ``"text:<column>"``, ``"number:<column>"`` and :data:`MODEL_ROWS` count rows with an issue, and
        ``"reason:<stage>:<kind>:<column>"`` counts issues by reason. :data:`BAD_ROWS` counts rows with an issue, and
        with them the lines that were left out, which :data:`LINES` counts.
        """
        counts = Counter(self.seen)
        counts.update(total for total, _ in dict.fromkeys((_total_of(issue), issue.row) for issue in self.issues))
        for issue in self.issues:
            counts[f"reason:{issue.stage}:{issue.kind}:{issue.column}"] += 1
        for _, bad in self.bad_lines:
            counts[LINES] += 1
            counts[f"reason:{READ}:{kind_of(bad.reason)}:"] += 1
        if self.issues or self.bad_lines:
            counts[BAD_ROWS] = len({issue.row for issue in self.issues}) + len(self.bad_lines)
        return counts

    def with_failed_rows(self, reasons: Mapping[int, str]) -> Findings:
        """Return the findings with an issue for each row for which the model class fails.

        Args:
            reasons: Description of the failure, by row.
        """
        failed = [Issue.of(row, "", MODEL, reason) for row, reason in reasons.items()]
        return replace(self, issues=in_order([*self.issues, *failed])) if failed else self


def kind_of(reason: str) -> str:
    """Return a reason without its details."""
    return reason.partition(":")[0].partition(" (")[0]


def in_order(issues: Sequence[Issue]) -> list[Issue]:
    """Sort issues by row; the issues of a row keep their order."""
    return sorted(issues, key=lambda issue: issue.row)


class IssueWarnings:
    """Warnings of the issues of a run: the first ones, and at least one of each column and stage.

    Args:
        limit: Number of issues and lines that are named, whatever their columns.
    """

    def __init__(self, limit: int = 10) -> None:
        self._left = limit
        self._named: set[tuple[str, str]] = set()

    def add(self, findings: Findings, names: Callable[[Sequence[int]], Sequence[Any]] | None = None) -> None:
        """Log warnings of issues, and of lines that were left out.

        Args:
            findings: Findings of some rows.
            names: Function from the positions of rows to their ids; bytes if the table is CSV or TSV. None: rows are
                named by their positions.
        """
        lines = findings.bad_lines[: max(0, self._left)]  # below 0 after issues of many columns
        self._left -= len(lines)
        issues = [issue for issue in (*findings.issues, *findings.examples) if self._is_named(issue)]
        rows = [issue.row for issue in issues]
        texts = [f"{bad.where}: {bad.reason}: {quoted(bad.text)}; the line is left out" for _, bad in lines]
        texts += map(warning_of, issues, rows if names is None or not rows else names(rows))
        for text in texts:
            log.warning("%s", printable(text))

    def _is_named(self, issue: Issue) -> bool:
        kind = (issue.column, issue.stage)
        if kind in self._named and (self._left <= 0 or issue.stage == MAGNITUDE):
            return False
        self._left -= 1
        self._named.add(kind)
        return True


def warning_of(issue: Issue, row: Any) -> str:
    """Return the line that tells a user of an issue.

    Args:
        issue: The issue.
        row: Id or position of its row.
    """
    row = id_text(row)
    reason = printable(issue.reason)
    if issue.stage == MODEL:
        return f"row {row}: {reason}; its probabilities are empty"
    if issue.stage == MAGNITUDE:
        return f"row {row}: column {issue.column!r}: {reason}: {issue.value}; it is used as it is"
    if issue.stage == FEATURE:
        done = "has the default bin" if issue.reason.endswith(NO_CATEGORY) else "is taken as missing"
        return f"row {row}: column {issue.column!r}: {reason}: {quoted(issue.value or '')}; the cell {done}"
    done = "cut there" if issue.reason.startswith(TOO_LONG) else "taken as empty"
    return f"row {row}: column {issue.column!r}, step {issue.stage!r}: {reason}; its text is {done}"


def id_text(value: Any) -> str:
    """Return the id or position of a row as messages show it. Bytes that are not UTF-8 are escaped."""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return quoted(text) if isinstance(text, str) else repr(text)


def advice(
    counts: Mapping[str, float], rows: int, source: SourceFormat | None, *, in_python: bool = False
) -> list[str]:
    """Return advice on settings that read the cells with issues, if these have one cause.

    Args:
        counts: Counts of the rows, see :meth:`Findings.counts`.
        rows: Number of rows.
        source: Format of the files that hold the rows; None if no files do.
        in_python: Whether the rows are from a caller in Python, who has no flags.
    """
    comma_advice = _COMMA_ADVICE_IN_PYTHON if in_python else _COMMA_ADVICE
    kinds: dict[str, Counter[str]] = {DECIMAL_COMMA: Counter(), DECIMAL_COMMA_AND_GROUPS: Counter(), COMMA: Counter()}
    found, not_utf8 = list[str](), False
    for key, count in counts.items():
        if key.startswith("reason:"):
            _, _, kind, column = key.split(":", 3)
            if kind in kinds:
                kinds[kind][column] += int(count)
            not_utf8 |= "not UTF-8" in kind
    columns: dict[str, list[str]] = {kind: [] for kind in kinds}
    for column in dict.fromkeys(name for named in kinds.values() for name in named):
        cells = rows - counts.get(f"missing:{column}", 0)
        decimal, groups, either = (named[column] for named in kinds.values())
        decimals, points = decimal + groups, counts.get(f"{POINTS}:{column}", 0)
        if decimals > either + points and decimals + either >= _SHARE_OF_DECIMALS * cells:
            columns[DECIMAL_COMMA_AND_GROUPS if groups else DECIMAL_COMMA].append(column)
        elif decimals <= either and decimals + either >= _SHARE_OF_COMMAS * cells:
            columns[COMMA].append(column)
    found += [f"the numbers of {_columns(named)} {comma_advice[kind]}" for kind, named in columns.items() if named]
    if not_utf8 and source in DELIMITERS:
        what = "give the encoding of the files with --csv-encoding, or the key csv_encoding in the config"
        found.append(f"cells hold bytes that are not UTF-8: {what}")
    return found


def _columns(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:_COLUMNS_NAMED]))}{', ...' if names[_COLUMNS_NAMED:] else ''}"


def warn_of_counts(
    counts: Mapping[str, float], rows: int, source: SourceFormat | None = None, *, in_python: bool = False
) -> None:
    """Log the counts of a run.

    There is a warning for each column with issues and for each observer that failed.

    Args:
        counts: Counts of a run, see :meth:`Findings.counts`, with :data:`MISSING_IDS`, :data:`REPEATED_IDS`,
            :data:`ALTERED_PARTS` and ``"hook:<observer>"``. Other keys are counts of plugins and are not logged.
        rows: Number of rows.
        source, in_python: See :func:`advice`.
    """
    reasons: dict[str, list[str]] = {}
    for key, count in counts.items():
        if key.startswith("reason:"):
            _, stage, kind, column = key.split(":", 3)
            reasons.setdefault(_total(stage, column), []).append(f"{count:,.0f} {printable(kind)}")
    for key, count in counts.items():
        kind, _, name = key.partition(":")
        if key in _ROW_WARNINGS and key not in _WITH_ADVICE:
            log.warning(_ROW_WARNINGS[key].format(count) + "%s", _listed(reasons.get(key)))
        elif kind in _WARNINGS:
            log.warning(_WARNINGS[kind].format(count) + "%s", name, _listed(reasons.get(key)))
    warn_of_advice(counts, rows, source, in_python=in_python)


def warn_of_advice(
    counts: Mapping[str, float], rows: int, source: SourceFormat | None = None, *, in_python: bool = False
) -> None:
    """Log advice, which a list of the counts does not have; see :func:`advice` for the arguments."""
    for key in _WITH_ADVICE:
        if counts.get(key):
            log.warning("%s", _ROW_WARNINGS[key].format(counts[key]))
    for text in advice(counts, rows, source, in_python=in_python):
        log.warning("%s", printable(text))


def note_counts(counts: Mapping[str, float]) -> None:
    """Log the counts of a run that are no issues: a line for each kind, such as missing values."""
    for kind, what in _NOTES.items():
        found = {key.partition(":")[2]: count for key, count in counts.items() if key.startswith(f"{kind}:")}
        if found:
            log.info("%s: %s", what, ", ".join(f"{name!r} {count:,.0f}" for name, count in found.items()))


def _listed(reasons: Sequence[str] | None) -> str:
    return f" ({', '.join(reasons)})" if reasons else ""


def _total_of(issue: Issue) -> str:
    return _total(issue.stage, issue.column)


def _total(stage: str, column: str) -> str:
    """Return the key of the count of all issues of a column at a stage."""
    if not column:
        return MODEL_ROWS if stage == MODEL else LINES
    return f"number:{column}" if stage == FEATURE else f"text:{column}"


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        value = value[: 4 * _VALUE_CHARS].decode(errors="backslashreplace")
    return _storable(value_text(value)[:_VALUE_CHARS])[:_VALUE_CHARS]


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode()
