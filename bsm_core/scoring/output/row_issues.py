"""Row issues of a run: as a table for each window, as one file, and as a limit above which the run fails."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import DataError, TooManyBadRowsError, quoted
from bsm_core.preprocess.findings import BAD_ROWS, LINES, MISSING_IDS, READ, REPEATED_IDS, Findings, advice, id_text
from bsm_core.report.statistics import Statistics
from bsm_core.runtime import durable
from bsm_core.runtime.durable import writing
from bsm_core.storage.temporary import scratch
from bsm_core.tables.cell_values import cell_values, escaped_text
from bsm_core.tables.data_files import SourceFormat, detect_format
from bsm_core.tables.formats.plain_values import rows_at
from bsm_core.tables.id_counts import IdCounts
from bsm_core.tables.write import TableWriter, output_schema

ROWS_NAMED = 10
"""Largest number of issues that an error names."""


def issues_schema(id_column: pa.Field) -> pa.Schema:
    """Return the columns of the row-issues file.

    Args:
        id_column: The id column, as it is in the predictions.
    """
    text = [(name, pa.string()) for name in ("column", "stage", "reason", "value")]
    return pa.schema([("row", pa.int64()), id_column, *text])


def issues_table(kept: pa.Table, start: int, findings: Findings) -> pa.Table | None:
    """Return the issues of a window in the columns of :func:`issues_schema`, or None if it has none.

    The column ``row`` is the position in the whole table, from 0. The column ``column`` is null if a whole row is at
    fault. A line that was left out has neither a row nor an id.

    Args:
        kept: Kept columns of the window, the id first.
        start: Position of the window's first row in the whole table.
        findings: Findings of the window.
    """
    if not findings.issues and not findings.bad_lines:
        return None
    rows: list[tuple[int, int | None, tuple[str | None, str, str, str | None]]] = [
        (issue.row, issue.row, (issue.column or None, issue.stage, issue.reason, issue.value))
        for issue in findings.issues
    ]
    # A line comes before the row that follows it. It has no number and no id.
    rows += [(at, None, (None, READ, f"{bad.reason} ({bad.where})", bad.text)) for at, bad in findings.bad_lines]
    rows.sort(key=lambda row: (row[0], row[1] is not None))
    numbers = pa.array([number for _, number, _ in rows], pa.int64())
    columns = [pc.add(numbers, start), rows_at(kept.column(0), numbers)]
    columns += [pa.array(column, pa.string()) for column in zip(*(cells for _, _, cells in rows), strict=True)]
    return pa.table(columns, schema=issues_schema(kept.schema.field(0)))


class RowIssuesFile:
    """Context manager that writes the row-issues file. The file appears whole, under its name, with :meth:`publish`.

    Args:
        path: The file. Its name says the format.
        id_column: The id column, as it is in the predictions. In Parquet, ids of CSV and TSV become strings, in which
            bytes that are not UTF-8 are escaped.
        source: Format of the data.
        output: Output folder of the run. Runs with other output folders can write the same file at the same time.

    Raises:
        SinkError: The file cannot be written; :meth:`write` and :meth:`publish` raise this error too.
        DataError: The id column has the name of another column of the file, or cannot be written to it.
    """

    def __init__(self, path: Path, id_column: pa.Field, source: SourceFormat, output: Path) -> None:
        self._path = path
        # Beside the file and not in the work folder, which may be on another file system. The name is the same in each
        # attempt of a run, so that the next one replaces what a killed one left. The extension can name a compression.
        run = hashlib.sha256(os.fsencode(str(output.resolve()))).hexdigest()[:12]
        self._scratch = ExitStack()
        self._temporary = self._scratch.enter_context(scratch(path.parent)) / f".bsm-{run}-{path.name}"
        format = detect_format(path)
        self._schema = issues_schema(output_schema(pa.schema([id_column]), source, format).field(0))
        if len(set(self._schema.names)) < len(self._schema):
            raise DataError(
                f"the id column {id_column.name!r} has the name of a column of the row-issues file",
                fix="rename it, or leave out --row-issues",
            )
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            self._temporary.unlink(missing_ok=True)
            self._writer = TableWriter(self._temporary, self._schema, format)

    @classmethod
    def check(cls, path: Path, id_column: pa.Field, source: SourceFormat, output: Path) -> None:
        """Check that the file can be written, long before it is; remove what a killed attempt of the run left.

        Raises:
            SinkError, DataError: It cannot.
        """
        with cls(path, id_column, source, output):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with writing(self._path), self._scratch:
            self._writer.__exit__(kind, error, trace)
            self._temporary.unlink(missing_ok=True)  # there, if it was not published

    def write(self, issues: pa.Table) -> None:
        """Append the issues of a window."""
        ids, kind = issues.column(1), self._schema.field(1).type
        if ids.type != kind:
            issues = issues.set_column(1, self._schema.field(1), escaped_text(ids))
        with writing(self._path):
            self._writer.write(issues)

    def publish(self) -> None:
        """Give the file its name, in the place of an earlier one."""
        with writing(self._path):
            self._writer.close()
            durable.replace(self._temporary, self._path)


class BadRowLimit:
    """Largest number of rows that may have an issue: of all rows, and of each column on its own.

    Args:
        limit: Value of ``--max-bad-rows``: a number of rows, or a share such as ``"5%"``.
        source: Format of the data.
        file: The row-issues file; None: it is not asked for.
    """

    def __init__(self, limit: int | str, source: SourceFormat, file: Path | None = None) -> None:
        self._limit, self._source, self._file = limit, source, file
        self._bad = Counter[str | None]()  # by column; None: of all rows
        self._rows = 0
        self._counts = Counter[str]()
        self._first: list[str] = []

    def add(self, counts: Mapping[str, float], rows: int, issues: pa.Table | None = None) -> None:
        """Count the issues of a window.

        Args:
            counts: Counts of the window, see :meth:`bsm_core.preprocess.findings.Findings.counts`.
            rows: Number of rows of the window.
            issues: Issues of the window, for the error to name some.

        Raises:
            TooManyBadRowsError: The limit is a number of rows, and more rows have an issue.
        """
        self._rows += rows
        for key, count in counts.items():
            if key == BAD_ROWS:
                self._bad[None] += int(count)
            elif key.startswith(("text:", "number:")):
                self._bad[key.partition(":")[2]] += int(count)
            elif key == LINES or key.startswith(("reason:", "missing:", "points:")):
                self._counts[key] += int(count)
        if issues is not None and len(self._first) < ROWS_NAMED:
            first = issues.slice(0, ROWS_NAMED - len(self._first))
            self._first += [_named(*issue) for issue in zip(*map(cell_values, first.columns), strict=True)]
        if isinstance(self._limit, int) and self._bad[None] > self._limit:
            raise self._error(f"{self._bad[None]:,} rows have an issue", "")

    def judge(self) -> None:
        """Check the share of rows with an issue, of all windows of a table.

        Raises:
            TooManyBadRowsError: The limit is a share, and it is exceeded.
        """
        if isinstance(self._limit, int):
            return
        rows = self._rows + self._counts[LINES]  # which would have been rows
        most = Fraction(self._limit.removesuffix("%")) * rows / 100  # exact, as no float is
        for column, bad in sorted(self._bad.items(), key=lambda item: item[0] is not None):
            if bad > most:
                where = "" if column is None else f" in column {column!r}"
                raise self._error(f"{bad:,} of {rows:,} rows have an issue{where}", " of the rows")

    def _error(self, what: str, of: str) -> TooManyBadRowsError:
        details = []
        reasons = [(key, count) for key, count in self._counts.items() if key.startswith("reason:")]
        for key, count in sorted(reasons, key=lambda item: -item[1])[:ROWS_NAMED]:
            _, stage, kind, column = key.split(":", 3)
            where = f"column {column!r}, " if column else ""
            details.append(f"{where}{stage}: {kind}: {count:,}")
        return TooManyBadRowsError(
            f"{what}, and --max-bad-rows allows {self._limit}{of}",
            details=[*details, *self._first, *advice(self._counts, self._rows, self._source)],
            fix="correct these rows, and run again from the beginning; or allow more with a higher --max-bad-rows: then"
            f" the run goes on; {self._where_they_are_listed()}",
        )

    def _where_they_are_listed(self) -> str:
        if isinstance(self._limit, str):
            return f"{self._file} lists them" if self._file else "--row-issues FILE lists them"
        share = "with a share, such as --max-bad-rows 20%,"
        if self._file:
            return f"{self._file} was not written, because the limit is a number: {share} it is"
        return f"--row-issues FILE lists them {share} as the limit"


class CommitReview:
    """Context manager that looks at the parts while they are committed.

    It writes the row-issues file, judges the number of bad rows of all processes, counts missing and repeated ids, and
    holds the sum of the statistics.

    Args:
        file: The row-issues file; None: it is not asked for.
        limit: Limit of bad rows, to which no window was added.
        ids: Counts of ids.

    Attributes:
        id_counts: Counts of missing and repeated ids, without zeros; complete after :meth:`end`.
        statistics: Sum of the statistics of the parts so far.
        counts: Sum of the counts of the parts whose rows are in the statistics.
    """

    def __init__(self, file: RowIssuesFile | None, limit: BadRowLimit, ids: IdCounts) -> None:
        self._file, self._limit, self._ids = file, limit, ids
        self.id_counts: dict[str, int] = {}
        self.statistics = Statistics()
        self.counts = Counter[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._ids.close()
        if self._file is not None:
            self._file.__exit__(kind, error, trace)

    def add(self, table: pa.Table, counts: Mapping[str, float], issues: pa.Table | None = None) -> None:
        """Look at the part of a window.

        Args:
            table: Output rows, the id first.
            counts: Counts of the window.
            issues: Issues of the window.

        Raises:
            TooManyBadRowsError: See :meth:`BadRowLimit.add`.
        """
        self._ids.add(table.column(0))
        self._limit.add(counts, len(table), issues)
        if issues is not None and self._file is not None:
            self._file.write(issues)

    def count(self, statistics: Statistics, counts: Mapping[str, float]) -> None:
        """Add the statistics of a part; without rows if the attempt that made it was not asked for statistics."""
        self.statistics.add(statistics)
        if statistics.rows:
            self.counts.update({key: int(count) for key, count in counts.items()})

    def end(self) -> None:
        """Publish the row-issues file, and judge the whole table.

        Raises:
            TooManyBadRowsError: See :meth:`BadRowLimit.judge`.
        """
        counts = zip((MISSING_IDS, REPEATED_IDS), self._ids.counted(), strict=True)
        self.id_counts = {key: count for key, count in counts if count}
        if self._file is not None:
            self._file.publish()  # also where the rows are too many: whoever corrects them needs the list
        self._limit.judge()


def _named(row: int | None, name: Any, column: str | None, stage: str, reason: str, value: str | None) -> str:
    """Return a line about an issue."""
    where = "" if row is None else f"row {row:,}, id {id_text(name)}: "
    cell = "" if column is None else f"column {column!r}, {stage}: "
    shown = "" if value is None else f": {quoted(value)}"
    return f"{where}{cell}{reason}{shown}"
