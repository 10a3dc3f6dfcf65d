"""Exit status of a command: errors and signals become a message and a status."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bsm_core.cli.command_parser import WrongUsage
from bsm_core.cli.terminal.screen import Screen
from bsm_core.errors import BSMError, Interrupted, printable
from bsm_core.runtime.log import Style, configure, current_style, json_line
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


def style_of_words(words: Sequence[str] | None) -> Style:
    """Return how lines are written before the arguments are parsed, and if they cannot be.

    Args:
        words: The arguments; those of the process if None.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--log-format", nargs="?")
    with suppress(argparse.ArgumentError):
        return style_of(parser.parse_known_args(words)[0])
    return Style()


def exit_status(parse: Callable[[], Work], style: Style | None = None) -> int:
    """Run a command with log lines on standard error, and return its exit status.

    Args:
        parse: Parses the arguments of the process, and returns the command. It may end the process with
            ``SystemExit``, as argparse does. The command returns its exit status, or None for success.
        style: How lines are written before the arguments are parsed.

    Returns:
        The status that the command returned; the status of a :class:`BSMError`, after its message; ``128 + n`` after
        signal ``n``, as in shells; 1 if a plugin called ``sys.exit``. Other exceptions are bugs and are not caught.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the program that started this one has closed it
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - it stays open
    sys.excepthook = _print_bug
    configure(style or Style())
    try:
        with interruptible(), last_words(lambda interrupted: _screen().show_end(_reason(interrupted))):
            with at_once():
                work = parse()
            screen = Screen(work.style) if isinstance(work, Command) else _screen()
            with screen.open(), explaining_memory():
                return _status(work)
    except WrongUsage as wrong:
        _screen().show_wrong_usage(wrong.text, wrong.error)
        raise
    except BSMError as error:
        _screen().show_error(error)
        return error.exit_code
    except Interrupted as interrupted:
        _screen().show_end(_reason(interrupted))
        return 128 + interrupted.signal


def _screen() -> Screen:
    return Screen(current_style())


def _status(work: Work) -> int:
    try:
        return work() or 0
    except SystemExit as error:  # raised by a plugin, whose status is not the command's
        _print_bug(SystemExit, error, error.__traceback__)
        return 1


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback whose lines show as escapes what is not printable: names in it may come from anyone."""
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")
    lines = text.split("\n")
    if current_style().as_json:
        message = printable("".join(traceback.format_exception_only(kind, error)).strip())
        lines = [json_line("ERROR", message, time.time(), {"traceback": text})]
    print("\n".join(map(printable, lines)), file=sys.stderr, flush=True)


def _reason(interrupted: Interrupted) -> str:
    return f"interrupted by {interrupted}"
