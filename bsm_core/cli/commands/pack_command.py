"""``bsm pack``: make an artifact that needs nothing from outside."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bsm_core.cli.arguments import add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import set_keys
from bsm_core.cli.output import say
from bsm_core.errors import BSMError, HookFailedError
from bsm_core.runtime.durable import writing

if TYPE_CHECKING:
    from bsm_core.artifact import Artifact

log = logging.getLogger("bsm")


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("pack", help="make an artifact complete: safe formats, tokenizer, encoder config")
    add_places(parser)
    parser.add_argument("--safe-only", action="store_true", help="leave out the pickled files")
    parser.add_argument(
        "--prefer", choices=("json", "pickle"), help="keep this one of two files that should hold the same values"
    )
    parser.add_argument(
        "--compat", choices=("original",), help="score as the scripts of the original project, which trained the model"
    )
    parser.add_argument("--allow-downloads", action="store_true", help="ask the Hugging Face hub for a tokenizer")
    checks = parser.add_mutually_exclusive_group()
    add_path(checks, "--data", metavar="TABLE", help="store its first rows for the self-check")
    checks.add_argument("--no-self-check", action="store_true", help="keep the check rows without scoring them")
    parser.set_defaults(handler=_pack, advice=set_keys)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the artifact and the place of the packed one."""
    add_path(parser, "source", metavar="SOURCE", help="the artifact: a folder or a model.tar.gz")
    add_path(parser, "destination", metavar="DESTINATION", help="a new folder, or a new .tar.gz file")


def pack_and_say(
    arguments: argparse.Namespace,
    finish: Callable[[Artifact], None],
    *,
    safe_only: bool = False,
    prefer: Literal["json", "pickle"] | None = None,
    compat: Literal["original"] | None = None,
) -> None:
    """Pack the artifact, call ``finish`` with it before it is published, and print its place."""
    from bsm_core.artifact import pack

    with writing(arguments.destination):
        places = arguments.source, arguments.destination
        packed = pack(*places, safe_only=safe_only, prefer=prefer, compat=compat, before_publishing=finish)
    say(str(packed))


def _pack(arguments: argparse.Namespace) -> None:
    from bsm_core.artifact.pretrained_files import downloading

    finish = partial(_finish, data=arguments.data, self_check=not arguments.no_self_check)
    options = {name: getattr(arguments, name) for name in ("safe_only", "prefer", "compat")}
    with downloading(arguments.allow_downloads):
        pack_and_say(arguments, finish, **options)


def _finish(artifact: Artifact, data: Path | None, self_check: bool) -> None:
    """Check the packed artifact, and record what makes it here, if its plugins are installed."""
    from bsm_core.artifact.check_rows import write_check_rows
    from bsm_core.artifact.save import refresh_provenance
    from bsm_core.predictor import Predictor
    from bsm_core.scoring.provenance import add_provenance
    from bsm_core.scoring.self_check import check, make_of_files
    from bsm_core.tables.formats.dialect import Dialect
    from bsm_core.tables.read import TableSource

    dialect = Dialect.of_config(artifact.config.as_mapping())
    source = None if data is None else TableSource.open(data, dialect=dialect)
    predictor = cache(lambda: Predictor.load(artifact, source=source))
    if source is not None:
        write_check_rows(artifact.folder, make_of_files(predictor(), source))
    elif self_check and artifact.check_rows is not None:
        check(predictor(), artifact.check_rows)
    try:
        add_provenance(artifact.folder, predictor())
    except HookFailedError:
        raise
    except BSMError as error:  # the artifact is complete all the same, and may be meant for another machine
        refresh_provenance(artifact)
        kept = "with the record that it had" if artifact.provenance else "without a record of what made it"
        log.warning("packed %s: %s", kept, error.one_line())
