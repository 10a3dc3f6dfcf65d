"""``bsm export``: pack an artifact and add its text encoders as ONNX files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bsm_core.artifact.files import writing
from bsm_core.cli.output import say

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("export", help="pack an artifact and add its text encoders as ONNX files")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the artifact: a folder or a model.tar.gz")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a new folder, or a new .tar.gz file")
    parser.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import pack

    with writing(arguments.destination):
        packed = pack(arguments.source, arguments.destination, before_publishing=_finish)
    say(str(packed))
    return 0


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
