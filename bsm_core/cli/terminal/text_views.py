"""Texts and tables of commands on a terminal, as wide as the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

_HANGING = 4
"""Columns by which a line that goes on is indented more."""


def text_view(lines: Sequence[str], width: int) -> RenderableType:
    """Return lines of which long ones go on indented; a line above indented ones is bold.

    Args:
        lines: The lines.
        width: Columns of the terminal.
    """
    found = Text()
    for line, next_line in zip(lines, [*lines[1:], ""], strict=True):
        indent = len(line) - len(line.lstrip(" "))
        is_title = not indent and next_line.startswith(" ")
        hanging = " " * (indent + _HANGING)
        wrapped = textwrap.wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]
        found.append("\n".join(wrapped) + "\n", "bold" if is_title else "")
    return found[:-1]


def table_view(rows: Sequence[Sequence[str]]) -> Table:
    """Return a table, of which the first row has the names of the columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
    for number, name in enumerate(rows[0]):
        table.add_column(name, overflow="fold", no_wrap=number == 0)  # the others are folded first
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return table
