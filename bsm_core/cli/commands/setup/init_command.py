"""``bsm init``: propose a training config for a table."""

from __future__ import annotations

import argparse
import logging

from bsm_core.cli.arguments import add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.train_command import key_and_value, set_training_keys
from bsm_core.cli.output import say_as_it_is, table_lines
from bsm_core.errors import UsageError
from bsm_core.runtime.durable import writing
from bsm_core.runtime.memory import require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once

log = logging.getLogger("bsm")


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("init", help="propose a training config for a table")
    add_path(parser, "--data", required=True, metavar="PATH", help="labeled rows: a file or a folder")
    parser.add_argument("--label", required=True, metavar="COLUMN", help="column of the label")
    add_path(parser, "--output", metavar="FILE", help="new file for the config (default: standard output)")
    about = "pretrained encoder: a folder, or a name in the Hugging Face cache (default: a small new one)"
    parser.add_argument("--pretrained", metavar="PATH_OR_NAME", help=about)
    about = "a config key to write, to JSON or text; csv_* keys say how to read; repeatable"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=about)
    parser.set_defaults(handler=_init, advice=set_training_keys)


def _init(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output is not None and output.exists():
        raise UsageError("the output exists already", where=str(output), fix="name a new file, or remove this one")
    changes = dict(map(key_and_value, arguments.set))
    require_memory_for_libraries()
    with at_once(), starting():
        from bsm_core.training.proposal import propose

    proposal = propose(arguments.data, arguments.label, pretrained=arguments.pretrained, changes=changes)
    for line in table_lines([("column", "is", "because"), *proposal.columns]):
        log.info("%s", line)
    if output is None:
        say_as_it_is(proposal.text.rstrip("\n"))
    else:
        with writing(output):
            output.write_text(proposal.text, encoding="utf-8")
        log.info("config: %s", output)
