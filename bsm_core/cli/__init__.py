"""The ``bsm`` command line, with one file for each command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from bsm_core.cli.command_parser import CommandParser
from bsm_core.cli.exit_status import Command, Work, exit_status, style_of, style_of_words
from bsm_core.errors import BSMError
from bsm_core.runtime.memory import explaining_memory
from bsm_core.runtime.versions import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``bsm`` command and return its exit status.

    Args:
        argv: The arguments; those of the process if None.
    """
    return exit_status(partial(_parse, argv), style_of_words(argv))


_EXAMPLES = """\
examples:
  bsm inspect model.tar.gz                  # what an artifact needs
  bsm run --model-dir model.tar.gz --data-dir rows.csv --id-field id --output-dir out
  bsm init --data labeled.csv --label churned --output config.toml
  bsm train --config config.toml --data labeled.csv --output model
  bsm import classifier/ model --text-column review   # a classifier of transformers

bsm COMMAND --help shows the flags of a command; those of bsm run stand in groups: input,
output, device, speed and safety.
"""


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
    from bsm_core.cli.commands.setup import completion_command, doctor_command, import_command, init_command

    parser = CommandParser(
        prog="bsm",
        description="Batch inference for text and tabular classifiers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bsm {__version__}")
    parser.set_defaults(advice=lambda settings: "", handler=lambda arguments: parser.print_help())
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in (
        run_command,
        init_command,
        train_command,
        import_command,
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
        doctor_command,
    ):
        command.add(commands)
    completion_command.add(commands, parser)
    with run_command.usage_errors(argv, "run"):
        arguments = parser.parse_args(argv)
    if arguments.command == "run":
        run_command.read_config(arguments)
    return Command(partial(_with_advice_of, arguments), style_of(arguments))


def _with_advice_of(arguments: argparse.Namespace) -> int | None:
    """Run a command, whose errors name settings as it does."""
    try:
        with explaining_memory():  # here, so that errors about memory have the advice too
            status: int | None = arguments.handler(arguments)
        return status
    except BSMError as error:
        error.advice = arguments.advice
        raise
