"""``bsm merge``: one prediction file of the shards that several hosts have scored."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import FOLDER, add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.output import say


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("merge", help="make one prediction file of the shards of a job")
    add_path(parser, "output", completes=FOLDER, metavar="OUTPUT", help="the output folder of the shards")
    parser.set_defaults(handler=_merge)


def _merge(arguments: argparse.Namespace) -> None:
    from bsm_core.scoring.output.merge import merge

    path, rows = merge(arguments.output)
    say(f"{rows:,} rows of all shards: {path}")
