"""Standard output of the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from bsm_core.errors import printable


def say_json(value: Any) -> None:
    """Print a value as JSON, in which null stands for a number that is not finite.

    DEL is the only character of ASCII that is not printable and that ``json`` does not escape.
    """
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    say(json.dumps(finite, indent=2).replace("\x7f", "\\u007f"))


def say(text: str) -> None:
    """Print a text of one or more lines; what is not printable is shown as escapes.

    A reader that has closed its end of a pipe, as ``head`` does, is no error.
    """
    try:
        print("\n".join(printable(line, None) for line in text.split("\n")), flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more when the process ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with aligned columns, indented by two spaces.

    Args:
        rows: Cells of each row, the heads first.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
