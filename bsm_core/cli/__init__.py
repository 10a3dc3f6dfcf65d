"""The ``bsm`` command line, with one file for each command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from bsm_core.cli import (
    clean_command,
    convert_command,
    export_command,
    inspect_command,
    pack_command,
    plugins_command,
    run_command,
    train_command,
)
from bsm_core.cli.exit_status import exit_status
from bsm_core.runtime.versions import __version__

_COMMANDS = (
    run_command,
    train_command,
    plugins_command,
    inspect_command,
    pack_command,
    export_command,
    convert_command,
    clean_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``bsm`` command and return its exit status.

    Args:
        argv: The arguments; those of the process if None.
    """
    parser = argparse.ArgumentParser(prog="bsm", description="Batch inference for text and tabular classifiers.")
    parser.add_argument("--version", action="version", version=f"bsm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    with run_command.usage_errors(argv):
        arguments = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace], int | None] = arguments.handler
    return exit_status(partial(handler, arguments))
