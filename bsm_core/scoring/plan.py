"""The plan of a run: what makes two runs the same run, so that the second can go on where the first ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bsm_core.errors import DataError
from bsm_core.runtime.durable import in_parallel
from bsm_core.storage.objects import ObjectPath, pinned
from bsm_core.tables.formats.folders import root_of
from bsm_core.tables.formats.partitions import table_of
from bsm_core.tables.read import TableSource

_SHOWN = 80
"""Characters of a value that a message shows."""


def inputs_of(source: TableSource, folder: Path) -> dict[str, list[int | str]]:
    """Return the state of each input file, by its name, in order.

    The name is the path in the folder or, if that is a partition, in the table: the folders' names are values of rows.
    The state is the size and the time of the last change, in nanoseconds; of an object, the size and the entity tag
    that it had when it was found.

    Raises:
        DataError: A file is gone.
    """
    table = table_of(root_of(folder))
    return {file.absolute().relative_to(table).as_posix(): _state(file) for file in source.files}


def _state(file: Path) -> list[int | str]:
    if isinstance(file, ObjectPath) and file.known:
        return [file.known.size, file.known.version]
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"the file is gone: {error.strerror}", where=str(file)) from error
    return [status.st_size, status.st_mtime_ns]


def require_unchanged(plan: Mapping[str, Any], source: TableSource, folder: Path) -> None:
    """Check that the input files are those with which the run began.

    Raises:
        DataError: A file was changed, replaced or removed since; the error names it.
    """
    try:
        files = tuple(in_parallel(pinned, source.files))
    except FileNotFoundError as error:
        raise DataError("the object is gone", where=str(error.filename)) from error
    for name, pair in _changed(plan["inputs"], inputs_of(replace(source, files=files), folder)):
        raise DataError(
            f"the file was changed while it was read: {_file_change(*pair)}",
            where=str(table_of(root_of(folder)) / name),
            fix="run again when nothing writes to the file any more; the run begins anew then",
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each difference between two plans; none if a run with one can continue the other.

    Args:
        before: The stored plan. It may have been written by another version of bsm, or by anyone.
        now: The plan of this run.
    """
    lines = []
    for part, values in now.items():
        stored = before.get(part)
        if not isinstance(values, Mapping):
            lines += [f"{part} was {_short(stored)}, is {_short(values)}"] if stored != values else []
            continue
        stored = stored if isinstance(stored, Mapping) else {}
        word, change = part.removesuffix("s"), _file_change if part == "inputs" else _change
        lines += [f"{word} {_short(name)}: {change(*pair)}" for name, pair in _changed(stored, values)]
        if not lines and list(stored) != list(values):
            lines.append(f"the {part} are in another order")
    return lines


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in {**before, **now}:
        if (pair := (before.get(name), now.get(name)))[0] != pair[1]:
            yield name, pair


def _change(before: Any, now: Any) -> str:
    if before is None:
        return "is new"
    if now is None:
        return "is gone"
    return f"was {_short(before)}, is {_short(now)}"


def _file_change(before: Any, now: Any) -> str:
    """Return what happened to an input file, whose size and time of the last change, or entity tag, are given."""
    try:
        (size, _), (size_now, _) = before, now
        return f"its size was {size:,}, is {size_now:,}" if size != size_now else "it was written to again"
    except (TypeError, ValueError):
        return _change(before, now)


def _short(value: Any) -> str:
    """Return a text of a value in a plan, in which everything but printable ASCII is escaped."""
    return ascii(value)[:_SHOWN].strip("'")
