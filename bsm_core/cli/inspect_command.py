"""``bsm inspect``: describe an artifact and load it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bsm_core.cli.output import say
from bsm_core.errors import BSMError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("inspect", help="say what an artifact is and what it lacks")
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="a folder or a model.tar.gz")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    from bsm_core.artifact import describe

    description = describe(arguments.model_dir)
    if not description.problems:
        _try_to_load(arguments.model_dir, description.problems)
    say(json.dumps(description.to_dict(), indent=2) if arguments.json else description.to_text())
    return 1 if description.problems else 0


def _try_to_load(model_dir: Path, problems: list[str]) -> None:
    """Only building it all shows whether steps, config and weights fit together; and rows, whether the model works."""
    import pyarrow as pa

    from bsm_core.artifact import Artifact, unpacked
    from bsm_core.artifact.check_rows import read_check_rows
    from bsm_core.predictor import Predictor
    from bsm_core.scoring.self_check import check

    try:
        with unpacked(model_dir) as folder:
            predictor, rows = Predictor.load(Artifact.load(folder)), read_check_rows(folder)
        predictor.predict(pa.table({name: pa.nulls(1) for name in predictor.preprocessor.wanted}))
        if rows is not None:
            check(predictor, rows)
    except BSMError as error:
        problems.append(error.one_line())
