"""``bsm run``: score a table. ``python -m bsm_core.run`` is the same command."""

from __future__ import annotations

import argparse
import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bsm_core.errors import Interrupted
from bsm_core.runtime.memory import require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once, last_words
from bsm_core.scoring.settings import Settings, sources

if TYPE_CHECKING:
    from bsm_core.scoring.sink import Sink


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("run", help="score a table (the same as python -m bsm_core.run)")
    add_arguments(parser)
    parser.set_defaults(handler=execute)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting."""
    for name, source in sources().items():
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


def execute(arguments: argparse.Namespace) -> None:
    """Run the job that the arguments describe."""
    flags = {name: getattr(arguments, name) for name in sources()}
    output = Settings.resolve(flags, os.environ).output_dir
    require_memory_for_libraries()
    with at_once(), starting():
        from bsm_core.scoring.sink import Sink

        with last_words(partial(_mark_failed, Sink(output))):
            from bsm_core.scoring import job
    job.run(flags, os.environ)


def _mark_failed(sink: Sink, interrupted: Interrupted) -> None:
    sink.folder.mkdir(parents=True, exist_ok=True)
    sink.fail(f"Interrupted: {interrupted}")


def _help(name: str) -> str:
    source, default = sources()[name], Settings.model_fields[name].get_default()
    notes = [f"env {source.env}"] if source.env else []
    if isinstance(default, str | int | Path) and not isinstance(default, bool):
        notes.append(f"default {default}")
    return source.help + (f" ({', '.join(notes)})" if notes else "")


def _flatten(annotation: Any) -> list[Any]:
    """Return the literal values in a type annotation, and the values of an enumeration."""
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return [member.value for member in annotation]
    arguments = get_args(annotation)
    return [value for a in arguments for value in _flatten(a)] if arguments else [annotation]
