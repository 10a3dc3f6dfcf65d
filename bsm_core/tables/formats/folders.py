"""Folders that other programs write: which files are rows of the table, and whether the program has finished."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from bsm_core.errors import DataError
from bsm_core.runtime.durable import in_parallel
from bsm_core.storage.objects import folders_in, walk

log = logging.getLogger("bsm")

_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "_spark_metadata": "Spark streaming"}
"""Kind of a table by a folder in it. Its Parquet files may hold rows that were removed from the table."""
_AT_WORK = re.compile(r"_temporary|\.spark-staging-.*|\.hive-staging.*")
"""Name of a folder in which Spark, Hadoop or Hive keeps the output of tasks until the job has finished."""
_PART_OF_JOB = re.compile(r"part-[0-9]{5}|part-[mr]-[0-9]{5}")
"""First letters of the name of a file that Spark or Hadoop writes, with a marker beside it."""


def visible_files(path: Path) -> list[Path]:
    """Return the visible files in a folder and its sub-folders, or those that match a pattern, in path order.

    In a pattern, ``**`` stands for any number of folders. A folder that matches stands for its files. Links are
    followed; no folder is searched twice.

    Raises:
        DataError: A folder is a table with a log, or holds the output of a job that has not finished.
        OSError: A folder cannot be listed.
    """
    root = root_of(path)
    return sorted(_walk(root, path.parts[len(root.parts) :] if is_pattern(path) else ()))


def _walk(root: Path, pattern: Sequence[str]) -> Iterator[Path]:
    """Yield the visible files below a folder that match a pattern.

    On a disk, only the folders that may hold some are listed; a store lists all objects below the folder at once.
    """
    seen: set[Path] = set()
    for here, folders, files in walk(root):
        if (real := here.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        _require_no_log(here, folders)
        _require_finished(here, folders)
        parts = here.parts[len(root.parts) :]
        folders[:] = sorted(n for n in folders if _visible_folder(n) and _matches((*parts, n), pattern, False))
        yield from (file for file in files if _visible(file.name) and _matches((*parts, file.name), pattern))


def _matches(parts: Sequence[str], pattern: Sequence[str], is_file: bool = True) -> bool:
    """Return whether a file, or a folder in which it lies, matches a pattern; of a folder, whether a file in it may.

    Args:
        parts: Names of folders and of the file, from the root of the pattern on.
        pattern: Parts of the pattern.
        is_file: Whether the last part is a file.
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return not is_file or any(_matches(parts[at:], pattern[1:]) for at in range(len(parts) + 1))
    if not parts:
        return not is_file
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:], is_file)


def is_read(file: Path, path: Path) -> bool:
    """Return whether a file, which need not be there, would be read as a part of a folder, a pattern or a file.

    A name that would be passed over counts in a folder, where nothing else should lie, but not for a pattern.
    """
    root, file = root_of(path).resolve(), file.resolve()
    if not is_pattern(path):
        return file.is_relative_to(path.resolve())
    parts = file.parts[len(root.parts) :] if file.is_relative_to(root) else ()
    pattern = path.parts[len(root_of(path).parts) :]
    visible = bool(parts) and _visible(parts[-1]) and all(map(_visible_folder, parts[:-1]))
    return visible and _matches(parts, pattern)


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern such as ``dt=2026-01-*/*.parquet``, and not the name of a file or folder."""
    return glob.has_magic(str(path)) and not path.exists()


def root_of(path: Path) -> Path:
    """Return a folder or, of a pattern, the folders before the first wildcard; of a file, its folder.

    A folder whose name has a wildcard and that is there is meant by it.
    """
    if not is_pattern(path):
        return path if path.is_dir() else path.parent
    above = (type(path)(*path.parts[:count]) for count in range(1, len(path.parts) + 1))
    return next((folder.parent for folder in above if glob.has_magic(folder.name) and not folder.exists()), path)


def require_plain_above(path: Path) -> None:
    """Check that a folder is no part of a table with a log, or of one that a job is still writing.

    Such a part is a partition, such as ``year=2024``; in a table with a log also its data folder.
    """
    here = root_of(path).resolve()
    while here != here.parent and not path.is_file() and ("=" in here.name or here.name == "data"):
        is_partition, here = "=" in here.name, here.parent
        names = folders_in(here)
        _require_no_log(here, names)
        if is_partition:
            _require_finished(here, names)


def warn_of_no_marker(path: Path) -> None:
    """Log a warning if a folder has parts of Spark or Hadoop without the marker that their job writes at its end.

    Copies of a folder often lack the marker, so this is no error.
    """
    if path.is_file():
        return
    top = root_of(path).resolve()
    folders = sorted({file.parent.resolve() for file in visible_files(path) if _PART_OF_JOB.match(file.name)})
    marked = in_parallel(partial(_is_marked, top=top), folders)
    if unmarked := [folder for folder, is_marked in zip(folders, marked, strict=True) if not is_marked]:
        more = f" and {len(unmarked) - 1} more folder(s)" if len(unmarked) > 1 else ""
        log.warning(
            "there is no _SUCCESS with the parts of Spark or Hadoop in %s%s: if their job failed, or is still running, "
            "rows are missing",
            unmarked[0],
            more,
        )


def _is_marked(folder: Path, top: Path) -> bool:
    """Return whether a marker stands in a folder or above: up to ``top``, or to the table that it is a partition of.

    A folder above ``top`` that cannot be listed may hold the marker.
    """
    here = folder
    while True:
        try:
            if any(file.name == "_SUCCESS" or file.name.startswith("_committed_") for file in here.iterdir()):
                return True
        except OSError:
            return True
        if here == here.parent or (here == top and "=" not in here.name):
            return False
        top = here.parent if here == top else top
        here = here.parent


def _kind_of(folder: Path, names: Collection[str]) -> str | None:
    """Return the kind of a table whose log says which of the files are its rows; None for an ordinary folder."""
    if kind := next((kind for sign, kind in _LOGS.items() if sign in names), None):
        return kind
    iceberg = "metadata" in names and any((folder / "metadata").glob("*.metadata.json"))
    return "Iceberg" if iceberg else None


def _require_no_log(here: Path, names: Collection[str]) -> None:
    """Check by the names of the folders in a folder that it is no table with a log."""
    if kind := _kind_of(here, names):
        raise DataError(
            f"the folder is a {kind} table, in which a log says which of the files are its rows",
            where=str(here),
            fix="write the table as plain Parquet files, and give the folder of these",
        )


def _require_finished(here: Path, names: Collection[str]) -> None:
    """Check by the names of the folders in a folder that no job is writing into it."""
    if at_work := sorted(filter(_AT_WORK.fullmatch, names)):
        raise DataError(
            f"a job of Spark, Hadoop or Hive is still writing into the folder, or has failed: it has {at_work[0]!r}",
            where=str(here),
            fix=f"wait for the job, or run it again; if all of its rows are there, remove {at_work[0]!r}",
        )


def _visible(name: str) -> bool:
    return not name.startswith(("_", "."))


def _visible_folder(name: str) -> bool:
    """Return whether a folder is searched: as in Spark, also a partition such as ``_hour=2``."""
    return _visible(name) or (name.startswith("_") and "=" in name)
