"""Parser of the commands: the flags that every command has, and what it says of a word that it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from bsm_core.errors import UsageError, nearest
from bsm_core.storage.urls import shown

Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
"""Where the modules of the commands add their parsers."""


class WrongUsage(SystemExit):
    """End of a command whose arguments cannot be used, of which :func:`~bsm_core.cli.exit_status.exit_status` tells.

    Args:
        parser: Parser of the command.
        message: Message, which may quote arguments.
    """

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(2)
        self.text = f"{parser.format_usage()}{parser.prog}: error: {shown(message)}"
        self.error = UsageError(shown(message), fix=f"see {parser.prog} --help")


class CommandParser(argparse.ArgumentParser):
    """Parser that suggests what a misspelled word may mean. Those of its sub-commands are of the same class."""

    def __init__(self, **options: Any) -> None:
        self._fill: Callable[[argparse.ArgumentParser], None] | None = None
        super().__init__(**options)
        group = self.add_argument_group("messages")
        # No default: a sub-command's would replace what was given before its name.
        unset = argparse.SUPPRESS
        group.add_argument("--quiet", action="store_true", default=unset, help="show warnings and errors alone")
        formats, about = ["text", "json"], "text (default), or json: one object in each line"
        group.add_argument("--log-format", choices=formats, default=unset, help=about)

    def fill_later(self, fill: Callable[[argparse.ArgumentParser], None]) -> None:
        """Let a function add flags when the parser is first used: those of a run need pydantic, which loads slowly."""
        self._fill = fill

    def filled(self) -> CommandParser:
        """Return this parser, with all its flags."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def error(self, message: str) -> NoReturn:
        """End the command with a message."""
        raise WrongUsage(self, message)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, of which none may be unknown."""
        self.filled()
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return known, unknown

    def _meant(self, unknown: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        near = [other for flag in flags if (other := nearest(flag, self._option_string_actions))]
        return f"; did you mean {' and '.join(dict.fromkeys(near))}?" if near else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if action.choices and (near := nearest(str(value), map(str, action.choices))):
                raise argparse.ArgumentError(action, f"{error.message}; did you mean {near!r}?") from None
            raise
