"""``python -m bsm_core.run``: score a table with an artifact."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from bsm_core.errors import BSMError, Interrupted
from bsm_core.settings import Settings, sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting."""
    for name, source in sources().items():
        field = Settings.model_fields[name]
        options: dict[str, Any] = {"dest": name, "help": _help(name)}
        choices = [c for c in _flatten(field.annotation) if isinstance(c, str)]
        if field.annotation is bool:
            options["action"] = "store_const"
            options["const"] = not field.default  # a switch is there to be thrown
        elif choices and source.metavar is None:
            options["choices"], options["type"] = choices, str.lower
        else:
            options["metavar"] = source.metavar
        parser.add_argument(source.flag, required=field.is_required(), **options)


def execute(arguments: argparse.Namespace) -> int:
    """Run the job that the arguments describe; errors become a message and an exit status."""
    flags = {name: getattr(arguments, name) for name in sources()}

    def work() -> None:
        from bsm_core.memory import starting

        with starting():
            from bsm_core import job
        job.run(flags, os.environ)

    return guarded(work)


def guarded(work: Callable[[], object]) -> int:
    """Do some long work, with log lines on standard error; errors become a message and an exit status."""
    try:
        with _interruptible():
            from bsm_core.log import configure

            configure()
            work()
    except BSMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as interrupted:
        print(f"interrupted by {interrupted}", file=sys.stderr)
        return 128 + interrupted.signal  # as shells have it
    except SystemExit:  # of a plugin, say; its status is not the run's
        traceback.print_exc()
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m bsm_core.run``."""
    parser = argparse.ArgumentParser(
        prog="python -m bsm_core.run",
        description="Turn a CSV, TSV or Parquet table into class probabilities, one row for every row.",
        epilog="A flag beats its environment variable, which beats the artifact's config (BATCH_SIZE alone yields to "
        "it). Exit status: 0 done, 1 failed (see _FAILURE in the output folder), 2 wrong usage, 128 + n for signal n.",
    )
    add_arguments(parser)
    return execute(parser.parse_args(argv))


def _help(name: str) -> str:
    source, default = sources()[name], Settings.model_fields[name].get_default()
    notes = [f"env {source.env}"] if source.env else []
    if isinstance(default, str | int | Path) and not isinstance(default, bool):
        notes.append(f"default {default}")
    return source.help + (f" ({', '.join(notes)})" if notes else "")


def _flatten(annotation: Any) -> list[Any]:
    """The literal values in an annotation."""
    arguments = get_args(annotation)
    return [value for a in arguments for value in _flatten(a)] if arguments else [annotation]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and a container's stop end the run, which then leaves ``_FAILURE``."""
    # Not KeyboardInterrupt: Lightning answers that one by leaving the process.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main())
