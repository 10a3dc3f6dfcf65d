"""``bsm run``: score a table. ``python -m bsm_core.run`` is the same command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bsm_core.cli.arguments import FILE, FOLDER, add_path
from bsm_core.cli.command_parser import Commands, WrongUsage
from bsm_core.cli.exit_status import style_of
from bsm_core.cli.output import say
from bsm_core.errors import UsageError, give_flags
from bsm_core.runtime.log import configure

if TYPE_CHECKING:
    from bsm_core.scoring.run_file import RunFile


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    about = "score a table (the same as python -m bsm_core.run)"
    parser = commands.add_parser("run", help=about, usage="%(prog)s [-h] [FLAGS]", **HELP)
    parser.fill_later(add_flags)
    parser.set_defaults(handler=execute, advice=give_flags)


HELP: dict[str, Any] = {
    "description": "Compute class probabilities for every row of a CSV, TSV, JSON lines or Parquet table.",
    "epilog": """\
examples:
  bsm run --model-dir model.tar.gz --data-dir rows.parquet --id-field id --output-dir out
  bsm run --config nightly.toml --limit 1000            # a trial on the first rows
  bsm run --config nightly.toml --dry-run               # check everything, score nothing

A flag has precedence over the file of --config, the file over the environment variable, and the
variable over the artifact's config; except that the config has precedence over BATCH_SIZE.
Exit status: 0 for success, 1 for a failure (see _FAILURE in the output folder), 2 for wrong
usage, 128 + n after signal n.
""",
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}
"""Description and examples of ``bsm run``, for its parser."""
GROUPS: dict[str, tuple[str, ...]] = {
    "input": (
        *("model_dir", "data_dir", "id_field", "limit", "shard", "max_cell_mb", "on_bad_line"),
        *("csv_delimiter", "csv_escape", "csv_encoding", "csv_header", "csv_columns", "csv_decimal", "csv_thousands"),
    ),
    "output": (
        "output_dir",
        "output_format",
        "keep_columns",
        "predicted_class",
        "emit",
        "row_issues",
        "report",
        "run_record",
    ),
    "device": ("device", "devices", "accelerator", "engine", "ray_address", "num_actors"),
    "speed": ("batch_size", "precision", "backend", "num_workers", "window_rows", "profile"),
    "safety": ("resume", "max_bad_rows", "on_bad_row", "self_check", "strict", "allow_downloads"),
    "job": ("job_type",),
}
"""Settings by the group in which ``--help`` shows them."""
_OTHERS: dict[str, tuple[Any, ...]] = {
    "dry-run": (True, False),
    "quiet": (True, False),
    "log-format": ("text", "json"),
}
"""Flags that are no settings and that the file of ``--config`` may have, with their values."""
_SPELLINGS = {"job_type": ("--job-type",)}


def add_flags(parser: argparse.ArgumentParser, *, needs_job_type: bool = False) -> None:
    """Add all flags of a run, in groups.

    Args:
        parser: The parser.
        needs_job_type: Whether ``--job_type`` must be given.
    """
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for title, names in GROUPS.items():
        add_arguments(groups[title], names, required=("job_type",) if needs_job_type else ())
    job = groups["job"]
    about = "a TOML file with flags by name"
    add_path(job, "--config", kind=Path, dest="run_config", metavar="FILE", help=about)
    about = "check everything and print the plan; score nothing and write no output"
    job.add_argument("--dry-run", action="store_true", default=None, help=about)


TABLE_SETTINGS = ("csv_delimiter", "csv_escape", "csv_encoding", "csv_header", "csv_columns")
"""Settings that say how the cells of a file of CSV or TSV are found."""


def add_arguments(parser: argparse._ActionsContainer, names: Iterable[str], required: Sequence[str] = ()) -> None:
    """Add a flag for each of some settings.

    Args:
        parser: A parser, or a group of its flags.
        names: Names of the settings.
        required: Names of those of them that must be given.
    """
    from bsm_core.scoring.settings import Settings, sources  # here, as below: it imports pydantic

    for name in names:
        source = sources()[name]
        field = Settings.model_fields[name]
        options: dict[str, Any] = {"dest": name, "help": _help(name)}
        values = _flatten(field.annotation)
        choices = [value for value in values if isinstance(value, str)]
        if field.annotation is bool:
            options["action"] = "store_const"
            options["const"] = not field.default  # giving the flag changes the default
        elif choices and source.metavar is None:
            options["choices"], options["type"] = choices, str.lower
        else:
            options["metavar"] = source.metavar
        flags = source.flag, *_SPELLINGS.get(name, ())
        if Path in values:
            completes = FOLDER if name == "output_dir" else FILE
            add_path(parser, *flags, kind=None, completes=completes, required=name in required, **options)
        else:
            parser.add_argument(*flags, required=name in required, **options)


def give_table_flags(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to give flags of :data:`TABLE_SETTINGS`; see :class:`~bsm_core.errors.BSMError`."""
    return give_flags([each for each in settings if each.keys() <= {*TABLE_SETTINGS}])


def set_keys(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to set keys of the artifact's config; see :class:`~bsm_core.errors.BSMError`."""
    from bsm_core.scoring.settings import sources

    known = [each for each in settings if all(sources()[name].in_artifact for name in each)]
    keys = (" and ".join(f"{name} to {value}" for name, value in each.items()) for each in known)
    return f"set {' or '.join(keys)} in the config" if known else ""


def read_config(arguments: argparse.Namespace) -> None:
    """Read the file of ``--config``, and set what the flags of the command that are no settings leave open.

    Raises:
        UsageError: The file cannot be used.
    """
    arguments.file = None
    if arguments.run_config is None:
        return
    from bsm_core.scoring import job
    from bsm_core.scoring.run_file import RunFile

    try:
        file = RunFile.read(arguments.run_config, _OTHERS)
        _complete(arguments, file)
        if file.problem:
            raise file.problem
    except UsageError as error:
        if not arguments.dry_run:
            job.refuse(job.both(vars(arguments), arguments.file), os.environ, error.one_line())
        raise


def _complete(arguments: argparse.Namespace, file: RunFile) -> None:
    """Set what a file holds, where no flag does. Errors, too, are written as it says from now on."""
    arguments.file = file.settings
    for flag, value in file.others.items():
        if getattr(arguments, name := flag.replace("-", "_"), None) is None:
            setattr(arguments, name, value)
    configure(style_of(arguments))


def execute(arguments: argparse.Namespace) -> None:
    """Run the job that the arguments describe."""
    from bsm_core.scoring.settings import sources

    flags = {name: getattr(arguments, name) for name in sources()}
    if arguments.dry_run:
        from bsm_core.scoring.dry_run import dry_run

        outline = dry_run(flags, os.environ, arguments.file)
        plan = map(": ".join, outline.entries())
        say("\n".join(["all checks passed; no row was scored, and no output was written", *plan]))
        return
    from bsm_core.scoring import job  # here, because the help of all commands needs the flags alone

    job.run(flags, os.environ, arguments.file)


@contextmanager
def usage_errors(argv: Sequence[str] | None, command: str | None = None) -> Iterator[None]:
    """Mark the output folder when the parser inside the block refuses the arguments of a run.

    The parser has no arguments then, so the folder is looked for again, by itself.

    Args:
        argv: The arguments; those of the process if None.
        command: First word of the arguments of a run. None: all are those of a run.
    """
    try:
        yield
    except WrongUsage as wrong:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        for flag in ("--quiet", "--dry-run"):
            parser.add_argument(flag, action="store_true", default=None)
        parser.add_argument("--config", type=Path, nargs="?")
        for flag in ("--output-dir", "--data-dir", "--model-dir", "--shard", "--log-format"):
            parser.add_argument(flag, nargs="?")  # one without its value may be what is wrong
        with suppress(argparse.ArgumentError):
            known, others = parser.parse_known_args(argv)
            if command in (None, next((word for word in others if not word.startswith("-")), "")):
                _mark(known, wrong.error.one_line())
        raise


def _mark(known: argparse.Namespace, reason: str) -> None:
    """Mark the output folder of a run with arguments that cannot be used, of which some are known."""
    from bsm_core.scoring import job
    from bsm_core.scoring.run_file import RunFile

    known.file = None
    if known.config is not None:
        with suppress(UsageError):
            _complete(known, RunFile.read(known.config, _OTHERS))
    if not known.dry_run:
        job.refuse(job.both(vars(known), known.file), os.environ, reason)


def _help(name: str) -> str:
    from bsm_core.scoring.settings import Settings, sources

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
