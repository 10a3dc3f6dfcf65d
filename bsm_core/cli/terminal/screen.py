"""Standard error as a command uses it: a terminal with rich's help, or plain lines where there is no terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from bsm_core.errors import BSMError, UsageError
from bsm_core.runtime.log import Style, configure, json_line
from bsm_core.runtime.profile import Advance, Ended, Event, listening

if TYPE_CHECKING:
    from rich.console import Console

    from bsm_core.cli.terminal.bar import Bar

_COLORS = {"WARNING": "yellow", "ERROR": "bold red"}


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor, and not the log of a build server."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown") and not os.environ.get("CI")


def console_of(stream: TextIO) -> Console:
    """Return rich's console on a terminal. 80 columns if the terminal reports none, as in containers."""
    from rich.console import Console

    try:
        unknown = 0 in os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        unknown = True
    size: dict[str, Any] = {"width": 80, "height": 24} if unknown and "COLUMNS" not in os.environ else {}
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False, **size)


class Screen:
    """Standard error of a command.

    Args:
        style: How log lines are written. As JSON, nothing but lines is written.
    """

    def __init__(self, style: Style) -> None:
        self.style = style
        self._bar: Bar | None = None

    @cached_property
    def console(self) -> Console:
        """The terminal."""
        return console_of(sys.stderr)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Send log lines, and what the work inside the block tells of itself, to the screen."""
        if self.style.as_json or not is_terminal(sys.stderr):
            configure(self.style)
            yield
            return
        configure(self.style._replace(beside_bar=True), self._show_line)
        try:
            # Without a listener, events are lines, of which a quiet command shows warnings alone.
            with nullcontext() if self.style.quiet else listening(self._show_event, shows=True):
                yield
        finally:
            self._end_bar()
            configure(self.style)

    def show_error(self, error: BSMError) -> None:
        """Show the error with which a command ends."""
        if self.style.as_json:
            content: dict[str, Any] = {"error": type(error).__name__, "what": error.what, "where": error.where}
            content |= {"details": error.details, "fix": error.to_fix}
            print(json_line("ERROR", error.one_line(), time.time(), content), file=sys.stderr)
        elif is_terminal(sys.stderr):
            from bsm_core.cli.terminal.error_panel import error_panel

            self.console.print(error_panel(error))
        else:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)

    def show_wrong_usage(self, text: str, error: UsageError) -> None:
        """Show why arguments cannot be used.

        Args:
            text: The usage of the command and the problem.
            error: The problem alone.
        """
        if self.style.as_json:
            self.show_error(error)
        else:
            print(text, file=sys.stderr)

    def show_end(self, reason: str) -> None:
        """Show why a command was ended from outside."""
        print(json_line("ERROR", reason, time.time(), {}) if self.style.as_json else reason, file=sys.stderr)

    def _show_line(self, record: logging.LogRecord, line: str) -> None:
        from rich.text import Text

        text = Text(line)
        time, level = line.partition(" ")[0], record.levelname
        text.stylize("dim", 0, len(time))
        if level in _COLORS:
            text.stylize(_COLORS[level], len(time) + 1, len(time) + 1 + len(level))
        self.console.print(text)

    def _show_event(self, event: Event) -> None:
        if isinstance(event, Advance):
            if self._bar is None:
                from bsm_core.cli.terminal.bar import Bar

                self._bar = Bar(self.console)
            self._bar.update(event)
            return
        self._end_bar()
        if not isinstance(event, Ended):
            from bsm_core.cli.terminal.run_views import view_of

            self.console.print(view_of(event, self.console.width))

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
