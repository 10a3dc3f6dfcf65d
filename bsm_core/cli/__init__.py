"""The ``bsm`` command line, with one file for each command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from bsm_core.cli.exit_status import Work, exit_status
from bsm_core.errors import BSMError
from bsm_core.runtime.memory import explaining_memory
from bsm_core.runtime.versions import __version__
from bsm_core.storage.urls import shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``bsm`` command and return its exit status.

    Args:
        argv: The arguments; those of the process if None.
    """
    return exit_status(partial(_parse, argv))


class _Parser(argparse.ArgumentParser):
    """Parser that prints its own usage where a flag is unknown; those of its commands are of the same class."""

    def error(self, message: str) -> NoReturn:
        """End the command with a message, which may quote arguments."""
        super().error(shown(message))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown


def _parse(argv: Sequence[str] | None) -> Work:
    # Imported here, where signals are handled: until then, the first process of a container ignores SIGTERM.
    from bsm_core.cli.commands import (
        clean_command,
        compare_command,
        convert_command,
        evaluate_command,
        export_command,
        inspect_command,
        merge_command,
        pack_command,
        plugins_command,
        report_command,
        run_command,
        train_command,
    )

    parser = _Parser(prog="bsm", description="Batch inference for text and tabular classifiers.")
    parser.add_argument("--version", action="version", version=f"bsm {__version__}")
    parser.set_defaults(advice=lambda settings: "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (
        run_command,
        train_command,
        plugins_command,
        inspect_command,
        pack_command,
        export_command,
        convert_command,
        compare_command,
        evaluate_command,
        report_command,
        merge_command,
        clean_command,
    ):
        command.add(commands)
    with run_command.usage_errors(argv):
        arguments = parser.parse_args(argv)
    return partial(_with_advice_of, arguments)


def _with_advice_of(arguments: argparse.Namespace) -> int | None:
    """Run a command, whose errors name settings as it does."""
    try:
        with explaining_memory():  # here, so that errors about memory have the advice too
            status: int | None = arguments.handler(arguments)
        return status
    except BSMError as error:
        error.advice = arguments.advice
        raise
