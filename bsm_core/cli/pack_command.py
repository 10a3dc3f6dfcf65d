"""``bsm pack``: make an artifact complete in itself."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from bsm_core.artifact.files import writing
from bsm_core.cli.output import say
from bsm_core.errors import BSMError, HookFailedError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("pack", help="make an artifact complete: safe formats, tokenizer, encoder config")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder or a model.tar.gz")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a folder, or a name in .tar.gz")
    parser.add_argument("--safe-only", action="store_true", help="leave the pickled twins out")
    checks = parser.add_mutually_exclusive_group()
    checks.add_argument("--data", type=Path, metavar="TABLE", help="store its first rows for the self-check")
    checks.add_argument("--no-self-check", action="store_true", help="keep check rows without scoring them")
    parser.set_defaults(handler=_pack)


def _pack(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import pack

    finish = partial(finish_packed, data=arguments.data, check_rows=not arguments.no_self_check)
    with writing(arguments.destination):
        packed = pack(arguments.source, arguments.destination, safe_only=arguments.safe_only, before_publishing=finish)
    say(str(packed))
    return 0


def finish_packed(folder: Path, data: Path | None, check_rows: bool) -> None:
    """Check the packed artifact, and record what makes it here, where that can be had."""
    from bsm_core.artifact.provenance_file import PROVENANCE
    from bsm_core.scoring.provenance import add_provenance

    if check_rows:
        _check_packed(folder, data)
    try:
        add_provenance(folder)
    except HookFailedError:
        raise
    except BSMError as error:  # the artifact is whole all the same, and may be meant for another machine
        kept = "with the record that it had" if (folder / PROVENANCE).exists() else "without a record of what made it"
        print(f"packed {kept}: {error.one_line()}", file=sys.stderr)


def _check_packed(folder: Path, data: Path | None) -> None:
    """Store check rows from a table; without one, those that the artifact has must hold."""
    from bsm_core.artifact import Artifact
    from bsm_core.artifact.check_rows import read_check_rows, write_check_rows
    from bsm_core.predictor import Predictor
    from bsm_core.scoring.self_check import ROWS, check, make
    from bsm_core.tables import TableSource

    if data is not None:
        predictor, source = Predictor.load(Artifact.load(folder)), TableSource.open(data)
        source.require(predictor.preprocessor.wanted)
        window = next(source.windows(list(predictor.preprocessor.wanted), rows=ROWS))
        write_check_rows(folder, make(predictor, window.table))
    elif (rows := read_check_rows(folder)) is not None:
        check(Predictor.load(Artifact.load(folder)), rows)
