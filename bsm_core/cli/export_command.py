"""``bsm export``: pack an artifact with its text encoders as ONNX files."""

from __future__ import annotations

import argparse
from pathlib import Path

from bsm_core.artifact.files import writing
from bsm_core.cli.output import say
from bsm_core.cli.pack_command import finish_packed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("export", help="pack an artifact with its text encoders as ONNX files beside the rest")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or a model.tar.gz")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a folder, or a name in .tar.gz")
    parser.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import Artifact, pack
    from bsm_core.backends.export import export
    from bsm_core.predictor import Predictor

    def finish(folder: Path) -> None:
        export(Predictor.load(Artifact.load(folder)).model, folder)
        finish_packed(folder, data=None, check_rows=True)

    with writing(arguments.destination):
        packed = pack(arguments.source, arguments.destination, before_publishing=finish)
    say(str(packed))
    return 0
