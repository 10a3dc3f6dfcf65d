"""The progress bar: one line with rows, rows per second, time left, and the share of time of each stage."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bsm_core.runtime.profile import SCORING, Advance, clock

_REFRESHES = 8
"""Refreshes per second."""
_LEAST, _MOST = 8, 40
"""Columns of the bar itself."""


class Bar:
    """Bar on a terminal; log lines that the same console prints stand above it.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._line = BarLine()
        self._live = Live(
            self._line,
            console=console,
            refresh_per_second=_REFRESHES,
            transient=True,
            redirect_stdout=False,  # what a command prints goes where its user sends it
            redirect_stderr=False,
        )
        self._live.start()

    def update(self, event: Advance) -> None:
        """Show how far the work is."""
        self._line.event = event

    def close(self) -> None:
        """Remove the bar."""
        self._live.stop()


class BarLine:
    """Line of the bar, as wide as the terminal.

    Attributes:
        event: How far the work is; None before the first rows.
    """

    def __init__(self, event: Advance | None = None) -> None:
        self.event = event

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one line. Where it would be too long, its last parts are left out."""
        event = self.event or Advance(SCORING, 0)
        parts = parts_of(event)
        room = options.max_width - 1  # the last column of some terminals wraps
        if _width(parts) + _LEAST > room and event.what == SCORING:
            parts[0] = ""  # of all parts, the plan above says what this one does
        while len(parts) > 2 and _width(parts) + _LEAST > room:
            parts.pop()
        width = max(_LEAST, min(_MOST, room - _width(parts)))
        bar = ProgressBar(1.0, event.share, width, pulse=not event.share and event.total is None)
        title, *others = parts
        table = Table.grid(padding=(0, 1, 0, 0))
        titles = [Text(title, "bold", no_wrap=True)] if title else []
        table.add_row(*titles, bar, *(Text(part, no_wrap=True) for part in others))
        yield table


def parts_of(event: Advance) -> list[str]:
    """Return the texts of the line, the most important first."""
    if event.total is None:
        rows = f"{event.rows:,} rows"
    else:
        total = f"{event.total:,}" if event.is_exact else f"~{_rounded(event.total):,}"
        rows = f"{event.rows:,}/{total} rows"
    parts = [event.what, *([f"{event.share:.0%}"] if event.share else []), rows]
    if event.rows > event.before and event.seconds:
        parts.append(f"{event.rate:,.0f}/s")
    if event.seconds_left is not None and event.share < 1:
        parts.append(f"{clock(event.seconds_left)} left")
    whole = sum(event.times.values())
    parts += [" ".join(f"{name} {seconds / whole:.0%}" for name, seconds in event.times.items())] * bool(whole)
    return parts


def _width(parts: list[str]) -> int:
    return sum(len(part) + 1 for part in parts if part)


def _rounded(total: int) -> int:
    """Return an estimate with three digits that count."""
    digits = max(0, len(str(total)) - 3)
    return int(round(total, -digits))
