"""Standard output of the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from bsm_core.cli.terminal.screen import console_of, is_terminal
from bsm_core.errors import SinkError, printable


def say_json(value: Any) -> None:
    """Print a value as JSON, in which null stands for a number that is not finite.

    DEL is the only character of ASCII that is not printable and that ``json`` does not escape.
    """
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    say_as_it_is(json.dumps(finite, indent=2).replace("\x7f", "\\u007f"))


def say(text: str) -> None:
    """Print a text of one or more lines; what is not printable is shown as escapes.

    On a terminal, a long line goes on below its text, and a line above indented ones is a title. Elsewhere, lines are
    printed as they are.
    """
    if not is_terminal(sys.stdout):
        say_as_it_is(text)
        return
    from bsm_core.cli.terminal.text_views import text_view

    console = console_of(sys.stdout)
    console.print(text_view([printable(line, None) for line in text.split("\n")], console.width))


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table, of which the first row has the names of the columns. On a terminal, long cells are folded."""
    rows = [tuple(map(printable, row)) for row in rows]
    if is_terminal(sys.stdout):
        from bsm_core.cli.terminal.text_views import table_view

        console_of(sys.stdout).print(table_view(rows))
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    say("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))


def say_as_it_is(text: str) -> None:
    """Print a text as :func:`say` does where there is no terminal.

    A reader that has closed its end of a pipe, as ``head`` does, is no error.
    """
    try:
        print("\n".join(printable(line, None) for line in text.split("\n")), flush=True)
    except OSError as error:
        # Python flushes standard output once more when the process ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise SinkError(f"standard output cannot be written: {error.strerror or error}") from error


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
