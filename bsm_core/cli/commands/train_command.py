"""``bsm train``: train a model on a table and write its artifact."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bsm_core.cli.arguments import FOLDER, add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.errors import UsageError
from bsm_core.runtime.memory import require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("train", help="train a model on a table and write its artifact")
    add_path(parser, "--config", required=True, metavar="FILE", help="the config, a TOML or JSON file")
    add_path(parser, "--data", required=True, metavar="PATH", help="labeled rows: a file or a folder")
    add_path(parser, "--validation", metavar="PATH", help="validation rows (default: some of --data)")
    about = "a new folder for the artifact"
    add_path(parser, "--output", completes=FOLDER, required=True, metavar="DIR", help=about)
    about = "report of the validation rows (default: OUTPUT-report.html)"
    add_path(parser, "--report", metavar="FILE", help=about)
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto", help="(default auto)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set a config key, to JSON or text; repeatable"
    )
    parser.set_defaults(handler=_train, advice=set_training_keys)


def set_training_keys(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to set keys of a training config; see :class:`~bsm_core.errors.BSMError`."""
    from bsm_core.training.config.config_advice import set_config_keys

    return set_config_keys(settings)


def _train(arguments: argparse.Namespace) -> None:
    require_memory_for_libraries()
    with at_once(), starting():
        from bsm_core.training import train
        from bsm_core.training.config.config_file import read_config_file

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
