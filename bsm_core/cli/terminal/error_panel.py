"""Errors on a terminal: what is wrong, where, and what to do."""

from __future__ import annotations

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from bsm_core.errors import BSMError, printable

_MOST_DETAILS = 20


def error_panel(error: BSMError) -> Panel:
    """Return the panel of an error."""
    details, fix = error.details, error.to_fix
    lines: list[RenderableType] = [Text(printable(error.what), "bold")]
    if error.where:
        lines.append(Text.assemble(("in ", "dim"), printable(error.where)))
    left_out = len(details) - _MOST_DETAILS
    lines += [Padding(Text(printable(line)), (0, 0, 0, 2)) for line in details[:_MOST_DETAILS]]
    if left_out > 0:
        lines.append(Text(f"  and {left_out:,} more", "dim"))
    if fix:
        lines += [Text(""), Text.assemble(("To fix: ", "bold green"), printable(fix))]
    return Panel(Group(*lines), title=type(error).__name__, title_align="left", border_style="red", box=ROUNDED)
