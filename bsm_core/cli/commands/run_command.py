"""``bsm run``: score a table. ``python -m bsm_core.run`` is the same command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from bsm_core.errors import give_flags
from bsm_core.scoring.settings import Settings, sources


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("run", help="score a table (the same as python -m bsm_core.run)")
    add_arguments(parser)
    parser.set_defaults(handler=execute, advice=give_flags)


TABLE_SETTINGS = ("csv_delimiter", "csv_escape", "csv_encoding", "csv_header", "csv_columns")
"""Settings that say how the cells of a file of CSV or TSV are found."""


def add_arguments(parser: argparse._ActionsContainer, names: Collection[str] | None = None) -> None:
    """Add a flag for each setting.

    Args:
        parser: A parser, or a group of its flags.
        names: Names of the settings. None: all.
    """
    for name, source in sources().items():
        if names is not None and name not in names:
            continue
        field = Settings.model_fields[name]
        options: dict[str, Any] = {"dest": name, "help": _help(name)}
        choices = [c for c in _flatten(field.annotation) if isinstance(c, str)]
        if field.annotation is bool:
            options["action"] = "store_const"
            options["const"] = not field.default  # giving the flag changes the default
        elif choices and source.metavar is None:
            options["choices"], options["type"] = choices, str.lower
        else:
            options["metavar"] = source.metavar
        parser.add_argument(source.flag, required=field.is_required(), **options)


def give_table_flags(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to give flags of :data:`TABLE_SETTINGS`; see :class:`~bsm_core.errors.BSMError`."""
    return give_flags([each for each in settings if each.keys() <= {*TABLE_SETTINGS}])


def set_keys(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to set keys of the artifact's config; see :class:`~bsm_core.errors.BSMError`."""
    known = [each for each in settings if all(sources()[name].in_artifact for name in each)]
    keys = (" and ".join(f"{name} to {value}" for name, value in each.items()) for each in known)
    return f"set {' or '.join(keys)} in the config" if known else ""


def execute(arguments: argparse.Namespace) -> None:
    """Run the job that the arguments describe."""
    from bsm_core.scoring import job  # here, because the help of all commands needs the flags alone

    job.run({name: getattr(arguments, name) for name in sources()}, os.environ)


@contextmanager
def usage_errors(argv: Sequence[str] | None) -> Iterator[None]:
    """Mark the output folder when the parser inside the block refuses a command that names a job type.

    The parser has no arguments then, so the folder is looked for again, by itself.
    """
    try:
        yield
    except SystemExit as end:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for flag in ("--job_type", "--output-dir", "--data-dir", "--model-dir", "--shard"):
            parser.add_argument(flag)
        with suppress(SystemExit):
            known, _ = parser.parse_known_args(argv)
            if end.code == 2 and known.job_type is not None:
                from bsm_core.scoring import job

                job.refuse(vars(known), os.environ, "wrong usage: the command line could not be read")
        raise


def _help(name: str) -> str:
    source, default = sources()[name], Settings.model_fields[name].get_default()
    notes = [f"env {source.env}"] if source.env else []
    if isinstance(default, str | int | Path) and not isinstance(default, bool):
        notes.append(f"default {default}")
    return (source.help + (f" ({', '.join(notes)})" if notes else "")).replace("%", "%%")  # % is special to argparse


def _flatten(annotation: Any) -> list[Any]:
    """Return the literal values in a type annotation, and the values of an enumeration."""
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [member.value for member in annotation]
    arguments = get_args(annotation)
    return [value for a in arguments for value in _flatten(a)] if arguments else [annotation]
