"""Findings: faulty cells of a window, which do not stop a run, and the warnings about them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("bsm")

_WARNINGS = {
    "text": "column %r: %d text(s) taken as empty",
    "number": "column %r: %d cell(s) that are not finite numbers, taken as missing",
    "hook": "observer %r failed %d time(s)",
}


@dataclass(frozen=True)
class TextFailure:
    """Row whose text could not be used and was taken as empty.

    Attributes:
        row: Position of the row in the column, from 0.
        step: Name of the step that failed, or ``"reading"`` if the value is not text.
        reason: Description of the error.
    """

    row: int
    step: str
    reason: str


@dataclass(frozen=True)
class Findings:
    """Faulty cells of one window. Their rows are scored like all other rows.

    Attributes:
        texts: Rows whose text was taken as empty, by text column.
        numbers: Number of cells that were unparsable or infinite, by feature column.
    """

    texts: dict[str, list[TextFailure]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def counts(self) -> Counter[str]:
        """Return the number of faulty cells by ``"text:<column>"`` and ``"number:<column>"``."""
        texts = {f"text:{column}": len(rows) for column, rows in self.texts.items()}
        return Counter(texts | {f"number:{column}": count for column, count in self.numbers.items()})


def warn_of_texts(findings: Findings, ids: Sequence[Any] | None = None, limit: int = 10) -> int:
    """Log a warning for each row whose text was taken as empty.

    Args:
        findings: Findings of a window.
        ids: Id of each row; bytes if the table is CSV or TSV. None: warnings name rows by their position.
        limit: Maximum number of warnings.

    Returns:
        The number of warnings.
    """
    failures = [(column, failure) for column, found in findings.texts.items() for failure in found]
    for column, failure in failures[:limit]:
        row = failure.row if ids is None else ids[failure.row]
        row = row.decode(errors="backslashreplace") if isinstance(row, bytes) else row
        log.warning(
            "row %r: column %r, step %r: %s; its text is taken as empty", row, column, failure.step, failure.reason
        )
    return min(limit, len(failures))


def warn_of_counts(counts: Mapping[str, float]) -> None:
    """Log one warning for each column with faulty cells and for each observer that failed.

    Args:
        counts: Counts of a run by ``"text:<column>"``, ``"number:<column>"`` and ``"hook:<observer>"``. Other keys are
            counts of plugins and are not logged.
    """
    for key, count in counts.items():
        kind, _, name = key.partition(":")
        if kind in _WARNINGS:
            log.warning(_WARNINGS[kind], name, count)
