"""Exit status of a command: errors and signals become a message and a status."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from bsm_core.cli.terminal.screen import Screen
from bsm_core.errors import BSMError, Interrupted, printable
from bsm_core.runtime.log import Style
from bsm_core.runtime.memory import explaining_memory
from bsm_core.runtime.signals import at_once, interruptible, last_words

Work = Callable[[], int | None]


@dataclass(frozen=True)
class Command:
    """Command whose arguments say how its log lines are written.

    Attributes:
        work: The command.
        style: How log lines are written.
    """

    work: Work
    style: Style

    def __call__(self) -> int | None:
        """Run the command."""
        return self.work()


def style_of(arguments: argparse.Namespace) -> Style:
    """Return how log lines are written, from the flags that every command has."""
    return Style(getattr(arguments, "log_format", "text") == "json", getattr(arguments, "quiet", False))


def exit_status(parse: Callable[[], Work]) -> int:
    """Run a command with log lines on standard error, and return its exit status.

    Args:
        parse: Parses the arguments of the process, and returns the command. It may end the process with
            ``SystemExit``, as argparse does. The command returns its exit status, or None for success.

    Returns:
        The status that the command returned; the status of a :class:`BSMError`, after its message; ``128 + n`` after
        signal ``n``, as in shells; 1 if a plugin called ``sys.exit``. Other exceptions are bugs and are not caught.
    """
    sys.excepthook = _print_bug
    screen = Screen(Style())
    try:
        with interruptible(), last_words(lambda interrupted: screen.show_end(_reason(interrupted))):
            with at_once():
                work = parse()
            screen = Screen(work.style if isinstance(work, Command) else Style())
            with screen.open(), explaining_memory():
                return _status(work)
    except BSMError as error:
        screen.show_error(error)
        return error.exit_code
    except Interrupted as interrupted:
        screen.show_end(_reason(interrupted))
        return 128 + interrupted.signal


def _status(work: Work) -> int:
    try:
        return work() or 0
    except SystemExit as error:  # raised by a plugin, whose status is not the command's
        _print_bug(SystemExit, error, error.__traceback__)
        return 1


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback whose lines show as escapes what is not printable: names in it may come from anyone."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
    print("\n".join(map(printable, lines)), file=sys.stderr, flush=True)


def _reason(interrupted: Interrupted) -> str:
    return f"interrupted by {interrupted}"
