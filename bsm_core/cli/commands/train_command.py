"""``bsm train``: train a model on a table and write its artifact."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from bsm_core.cli.arguments import path_or_url
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import set_keys
from bsm_core.errors import UsageError
from bsm_core.runtime.memory import require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("train", help="train a model on a table and write its artifact")
    place = partial(parser.add_argument, type=path_or_url)
    place("--config", required=True, metavar="FILE", help="the config, a JSON file")
    parser.add_argument(
        "--data", type=path_or_url, required=True, metavar="PATH", help="labeled rows: a file or a folder"
    )
    parser.add_argument(
        "--validation", type=path_or_url, metavar="PATH", help="validation rows (default: some of --data)"
    )
    parser.add_argument(
        "--output", type=path_or_url, required=True, metavar="DIR", help="a new folder for the artifact"
    )
    place("--report", metavar="FILE", help="report of the validation rows (default: OUTPUT-report.html)")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto", help="(default auto)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set a config key, to JSON or text; repeatable"
    )
    parser.set_defaults(handler=_train, advice=set_keys)


def _train(arguments: argparse.Namespace) -> None:
    require_memory_for_libraries()
    with at_once(), starting():
        from bsm_core.training import train
        from bsm_core.training.training_config import read_config_file

    config = read_config_file(arguments.config) | dict(map(key_and_value, arguments.set))
    options = {name: getattr(arguments, name) for name in ("validation", "accelerator", "report")}
    train(config, arguments.data, arguments.output, **options)


def key_and_value(text: str) -> tuple[str, Any]:
    """Split ``KEY=VALUE`` into a config key and its value: the JSON value, or the text itself if it is not JSON.

    Raises:
        UsageError: The text has no key or no equals sign.
    """
    key, found, value = text.partition("=")
    if not (key and found):
        raise UsageError(f"--set {text!r} cannot be used", fix="write KEY=VALUE, for example --set max_epochs=5")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
