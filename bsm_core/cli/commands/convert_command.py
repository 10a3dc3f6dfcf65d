"""``bsm convert``: convert a table between formats."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import TABLE_SETTINGS, add_arguments, give_table_flags
from bsm_core.cli.output import say
from bsm_core.runtime.durable import writing
from bsm_core.tables.formats.dialect import Dialect


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("convert", help="convert a table to CSV, TSV or Parquet")
    add_path(parser, "source", metavar="SOURCE", help="a file, or a folder with files of one format")
    add_path(parser, "destination", metavar="DESTINATION", help="a file; its extension is the format")
    parser.fill_later(lambda parser: add_arguments(parser, TABLE_SETTINGS))
    parser.set_defaults(handler=_convert, advice=give_table_flags)


def _convert(arguments: argparse.Namespace) -> None:
    from bsm_core.tables.convert import convert

    with writing(arguments.destination):
        rows = convert(arguments.source, arguments.destination, dialect=Dialect.of(vars(arguments)))
    say(f"{rows:,} rows: {arguments.destination}")
