"""Row issues of a call of the predictor: handed to a function of the caller, or logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from bsm_core.errors import require_callable
from bsm_core.preprocess.findings import READ, Findings, Issue, IssueWarnings, in_order, warn_of_counts
from bsm_core.tables.data_files import SourceFormat

OnIssue: TypeAlias = Callable[[Issue], object]
"""Function that takes a row issue."""


class IssueTeller:
    """Counter of rows that tells of the issues of consecutive batches of rows.

    Args:
        on_issue: Function that takes each issue, in the order of the rows. None: the first ones are logged, and
            :meth:`end` logs how many there are.

    Raises:
        UsageError: ``on_issue`` is no function.
    """

    def __init__(self, on_issue: OnIssue | None) -> None:
        require_callable("on_issue", on_issue, "one issue")
        self._on_issue = on_issue
        self._warnings, self._counts = IssueWarnings(), Counter[str]()
        self._rows = 0

    def add(self, findings: Findings, rows: int) -> None:
        """Tell of the issues of the next rows.

        Args:
            findings: Findings of these rows. A line that was left out is an issue of the row that follows it.
            rows: Number of the rows.
        """
        start = self._rows
        self._rows += rows
        if self._on_issue is None:
            self._warnings.add(findings, lambda positions: _moved(positions, start))
            self._counts.update(findings.counts())
            return
        lines = [Issue.of(at, "", READ, f"{bad.reason} ({bad.where})", bad.text) for at, bad in findings.bad_lines]
        for issue in in_order([*lines, *findings.issues]):
            self._on_issue(replace(issue, row=issue.row + start))

    def end(self, source: SourceFormat | None = None) -> None:
        """Log the number of issues, unless the caller has received them.

        Args:
            source: Format of the files that the rows are from; None if they are from a caller in Python.
        """
        if self._on_issue is None:
            warn_of_counts(self._counts, self._rows, source, in_python=source is None)


def _moved(positions: Sequence[int], start: int) -> list[int]:
    return [start + position for position in positions]
