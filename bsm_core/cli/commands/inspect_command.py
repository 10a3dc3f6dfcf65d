"""``bsm inspect``: describe an artifact, and try it out if nothing is wrong with its files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bsm_core.cli.arguments import add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import set_keys
from bsm_core.cli.output import say, say_json

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("inspect", help="describe an artifact and list its problems")
    add_path(parser, "model_dir", metavar="MODEL_DIR", help="the artifact: a folder or a model.tar.gz")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_inspect, advice=set_keys)


def _inspect(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import describe

    description = describe(arguments.model_dir, try_out=_try_out)
    if arguments.json:
        say_json(description.to_dict())
    else:
        say(description.to_text())
    return 1 if description.problems else 0


def _try_out(artifact: Artifact) -> None:
    """Build the pipelines and the model, score a row of missing values, and make the self-check."""
    import pyarrow as pa

    from bsm_core.predictor import Predictor
    from bsm_core.scoring.self_check import check

    predictor = Predictor.load(artifact)
    predictor.predict(pa.table({name: pa.nulls(1) for name in predictor.preprocessor.wanted}))
    if artifact.check_rows is not None:
        check(predictor, artifact.check_rows)
