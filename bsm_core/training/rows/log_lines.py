"""Log lines about the rows of a training job: which are used, and which label is which class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bsm_core.errors import printable
from bsm_core.training.rows.data import Rows

log = logging.getLogger("bsm")

WITHOUT_LABEL, BAD_LINES = "without_label", "bad_lines"
"""Reasons for which rows are left out, as ``training_metrics.json`` names them."""
_REASONS = {WITHOUT_LABEL: "{:,} without a label (row {rows})", BAD_LINES: "{:,} line(s) that cannot be read"}
_ROWS_NAMED, _CLASSES_NAMED = 10, 20


def tell_left_out(rows: Rows, missing: Sequence[int], called: str) -> None:
    """Log how many rows of a table are used, and why the others are not.

    Args:
        rows: The rows that are used.
        missing: Positions in the table of the rows without a label, from 0.
        called: Name of the table.
    """
    total = len(rows) + sum(rows.left_out.values())
    named = ", ".join(f"{row + 1:,}" for row in missing[:_ROWS_NAMED]) + (", ..." if missing[_ROWS_NAMED:] else "")
    reasons = "; ".join(_REASONS[reason].format(count, rows=named) for reason, count in rows.left_out.items())
    log.warning("%s: %s of %s rows are used; %s", printable(called), f"{len(rows):,}", f"{total:,}", reasons)


def tell_classes(order: Sequence[Any], rows: Rows, held_out: Rows | None, names: Sequence[str] | None) -> None:
    """Log which label is which class, and its share of the rows. Warn of classes without training rows.

    Args:
        order: Label of each class.
        rows: The training rows.
        held_out: The validation rows, if there are any.
        names: Name of each class for people, if the config has names.
    """
    parts = {"training": rows, "validation": held_out}
    counts = {
        part: each.labels.bincount(minlength=len(order)).tolist() for part, each in parts.items() if each is not None
    }
    for i, label in enumerate(order[:_CLASSES_NAMED]):
        name = f" {names[i]!r}" if names else ""
        shares = (f"{100 * found[i] / sum(found):.1f} % of the {part} rows" for part, found in counts.items())
        log.info("label %r is class %d%s (prob_class_%d): %s", label, i, name, i, ", ".join(shares))
    if len(order) > _CLASSES_NAMED:
        log.info("and %d more classes", len(order) - _CLASSES_NAMED)
    if absent := [label for label, count in zip(order, counts["training"], strict=True) if not count]:
        shown = ", ".join(map(repr, absent[:_CLASSES_NAMED])) + (", ..." if absent[_CLASSES_NAMED:] else "")
        log.warning("the model cannot learn classes without training rows: label %s", shown)
