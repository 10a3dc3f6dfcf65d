"""Row issues of a run: as a table for each window, as one file, and as a limit above which the run fails."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from bsm_core.errors import TooManyBadRowsError
from bsm_core.preprocess.dataset import WindowInfo
from bsm_core.preprocess.findings import BAD_ROWS, Findings
from bsm_core.runtime.log import printable
from bsm_core.tables.data_files import detect_format
from bsm_core.tables.write import TableWriter

_ROWS_NAMED = 10
"""Largest number of issues that an error names."""


def issues_schema(id_column: pa.Field) -> pa.Schema:
    """Return the columns of the row-issues file.

    Args:
        id_column: The id column, as it is in the predictions.
    """
    text = [(name, pa.string()) for name in ("column", "stage", "reason", "value")]
    return pa.schema([("row", pa.int64()), id_column, *text])


def issues_table(info: WindowInfo, findings: Findings) -> pa.Table | None:
    """Return the issues of a window in the columns of :func:`issues_schema`, or None if it has none.

    The column ``row`` is the position in the whole table, from 0. The column ``column`` is null if a whole row is at
    fault.
    """
    if not findings.issues:
        return None
    rows = pa.array([issue.row for issue in findings.issues], pa.int64())
    ids = info.kept.select([0]).take(rows)
    cells = [(issue.column or None, issue.stage, issue.reason, issue.value) for issue in findings.issues]
    columns = [pa.array([info.start + row for row in rows.to_pylist()], pa.int64()), ids.column(0)]
    columns += [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
    return pa.table(columns, schema=issues_schema(ids.schema.field(0)))


class RowIssuesFile:
    """Context manager that writes the row-issues file. The file appears whole, under its name, with :meth:`publish`.

    Args:
        path: The file. Its name says the format.
        schema: Columns of the file and their types.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        # The extension stays last: it can name a compression.
        self._temporary = path.with_name(f".bsm-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = TableWriter(self._temporary, schema, detect_format(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, trace)
        if kind is not None:
            self._temporary.unlink(missing_ok=True)

    def write(self, issues: pa.Table) -> None:
        """Append the issues of a window."""
        self._writer.write(issues)

    def publish(self) -> None:
        """Write the file to the disk and rename it to its name, in the place of an earlier one."""
        self._writer.close()
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self._path)


class BadRowLimit:
    """Largest number of rows that may have an issue: of all rows, and of each column on its own.

    Args:
        limit: Value of ``--max-bad-rows``: a number of rows, or a share such as ``"5%"``.
    """

    def __init__(self, limit: int | str) -> None:
        self._limit = limit
        self._bad = Counter[str | None]()  # by column; None: of all rows
        self._reasons = Counter[str]()
        self._first: list[str] = []

    def add(self, counts: Mapping[str, float], issues: pa.Table | None) -> None:
        """Count the issues of a window.

        Args:
            counts: Counts of the window, see :meth:`bsm_core.preprocess.findings.Findings.counts`.
            issues: Issues of the window.

        Raises:
            TooManyBadRowsError: The limit is a number of rows, and more rows have an issue.
        """
        if issues is None:
            return
        for key, count in counts.items():
            if key.startswith("reason:"):
                self._reasons[key] += int(count)
            elif key == BAD_ROWS:
                self._bad[None] += int(count)
            elif key.startswith(("text:", "number:")):
                self._bad[key.partition(":")[2]] += int(count)
        first = issues.slice(0, _ROWS_NAMED - len(self._first))
        self._first += [_named(*issue) for issue in zip(*(column.to_pylist() for column in first.columns), strict=True)]
        if isinstance(self._limit, int) and self._bad[None] > self._limit:
            raise self._error(f"{self._bad[None]:,} rows have an issue", "")

    def judge(self, rows: int) -> None:
        """Check the share of rows with an issue.

        Args:
            rows: Number of rows of the whole table.

        Raises:
            TooManyBadRowsError: The limit is a share, and it is exceeded.
        """
        if isinstance(self._limit, int):
            return
        most = float(self._limit.removesuffix("%")) / 100 * rows
        for column, bad in sorted(self._bad.items(), key=lambda item: item[0] is not None):
            if bad > most:
                where = "" if column is None else f" in column {column!r}"
                raise self._error(f"{bad:,} of {rows:,} rows have an issue{where}", " of the rows")

    def _error(self, what: str, of: str) -> TooManyBadRowsError:
        details = []
        for key, count in sorted(self._reasons.items(), key=lambda item: -item[1])[:_ROWS_NAMED]:
            _, stage, kind, column = key.split(":", 3)
            where = f"column {column!r}, " if column else ""
            details.append(f"{where}{stage}: {printable(kind)}: {count:,}")
        return TooManyBadRowsError(
            f"{what}, and --max-bad-rows allows {self._limit}{of}",
            details=[*details, *self._first],
            fix="correct these rows; or allow more with --max-bad-rows, and list them with --row-issues FILE",
        )


def _named(row: int, name: Any, column: str | None, stage: str, reason: str, value: str | None) -> str:
    """Return a line about an issue."""
    name = name.decode(errors="backslashreplace") if isinstance(name, bytes) else name
    cell = "" if column is None else f"column {column!r}, {stage}: "
    shown = "" if value is None else f": {value!r}"
    return f"row {row:,}, id {name!r}: {cell}{printable(reason)}{shown}"
