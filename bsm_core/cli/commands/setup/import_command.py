"""``bsm import``: make an artifact of a model that other tools trained."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import set_keys
from bsm_core.cli.output import say
from bsm_core.runtime.memory import require_memory_for_libraries, starting


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("import", help="make an artifact of a model that other tools trained")
    about = "a folder of transformers with a sequence classifier, a checkpoint, or a folder of a training job"
    add_path(parser, "source", metavar="SOURCE", help=about)
    add_path(parser, "destination", metavar="NEW", help="a new folder, or a new .tar.gz file")
    of_classifier = parser.add_argument_group("a sequence classifier of transformers")
    of_classifier.add_argument("--text-column", metavar="COLUMN", help="column of the text; required")
    about = "tokens of a text that are read (default: 512, or fewer, as the encoder or the tokenizer limits)"
    of_classifier.add_argument("--max-sen-len", type=_tokens, metavar="N", help=about)
    of_checkpoint = parser.add_argument_group("a checkpoint")
    add_path(of_checkpoint, "--config", metavar="FILE", help="the artifact's config, in JSON or TOML; required")
    add_path(parser, "--data", metavar="TABLE", help="store its first rows for the self-check")
    parser.set_defaults(handler=_import, advice=set_keys)


def _tokens(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _import(arguments: argparse.Namespace) -> None:
    require_memory_for_libraries()
    with starting():
        from bsm_core.training import import_model

    options = {name: getattr(arguments, name) for name in ("text_column", "max_sen_len", "config", "data")}
    say(str(import_model(arguments.source, arguments.destination, **options)))
