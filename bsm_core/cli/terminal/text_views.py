"""Texts and tables of commands on a terminal, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def text_view(lines: Sequence[str]) -> RenderableType:
    """Return lines of which long ones go on below their own text; a line above indented ones is bold."""
    return Group(*(_line(line, next_line) for line, next_line in zip(lines, [*lines[1:], ""], strict=True)))


def _line(line: str, next_line: str) -> RenderableType:
    indent = len(line) - len(line.lstrip(" "))
    is_title = not indent and next_line.startswith(" ")
    text = Text(line[indent:], "bold" if is_title else "", overflow="fold")
    return Padding(text, (0, 0, 0, indent)) if indent else text


def table_view(rows: Sequence[Sequence[str]]) -> Table:
    """Return a table, of which the first row has the names of the columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return table
