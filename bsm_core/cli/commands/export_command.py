"""``bsm export``: pack an artifact and add its text encoders as ONNX files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.pack_command import add_places, pack_and_say
from bsm_core.cli.commands.run_command import set_keys

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("export", help="pack an artifact and add its text encoders as ONNX files")
    add_places(parser)
    parser.set_defaults(handler=partial(pack_and_say, finish=_finish), advice=set_keys)


def _finish(artifact: Artifact) -> None:
    """Check the packed artifact, add the ONNX files, and record what makes it here."""
    from bsm_core.backends.export import export
    from bsm_core.predictor import Predictor
    from bsm_core.scoring.provenance import add_provenance
    from bsm_core.scoring.self_check import check

    predictor = Predictor.load(artifact)
    if artifact.check_rows is not None:
        check(predictor, artifact.check_rows)
    export(predictor.model, artifact.folder)
    add_provenance(artifact.folder, predictor)
