"""Temporary folders that do not outlive a killed process for long: the next process of the user removes them.

What goes to an object store, or comes from one as a whole, lies in such a folder for a while.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bsm_core.storage.object_reader import BLOCK_BYTES
from bsm_core.storage.objects import ObjectPath

_PREFIX = "bsm-artifact-"
_NAME = re.compile(_PREFIX + r"\d+-\w+")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make an empty folder, and remove it at the end; before that, remove the folders of processes that were killed.

    The name has the id of the process, for people. What tells that the process is alive is a lock on the folder, which
    the system releases when the process ends in any way. An id can be another process's by then, and means nothing to a
    container that shares the folder for temporary files.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder, lock = _new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Provide the folder in which files are written that get their names in ``folder`` when they are complete.

    This is ``folder`` itself, or a temporary one if ``folder`` is in an object store.
    """
    if not isinstance(folder, ObjectPath):
        yield folder
        return
    with temporary_folder() as local:
        yield local


@contextmanager
def uploading(destination: Path) -> Iterator[Path]:
    """Provide the path at which a file or folder is to be made; one for an object store is written there at the end.

    What is made beside it is written there too.
    """
    if not isinstance(destination, ObjectPath):
        yield destination
        return
    with temporary_folder() as folder:
        made = folder / destination.name
        yield made
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            to, base = (destination, made) if file.is_relative_to(made) else (destination.parent, folder)
            (to / file.relative_to(base).as_posix()).put(file)


def download(files: Mapping[str, ObjectPath], folder: Path) -> None:
    """Copy objects into a folder.

    Args:
        files: The objects, each by its name in the folder.
        folder: The folder.

    Raises:
        StorageError: An object cannot be read.
        OSError: A file cannot be written.
    """
    for name, path in files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb", buffering=0) as source, copy.open("wb") as file:
            shutil.copyfileobj(source, file, BLOCK_BYTES)


def is_temporary(folder: Path) -> bool:
    """Return whether a folder lies in a folder of :func:`temporary_folder`, such as that of an extracted archive."""
    return any(_NAME.fullmatch(part) for part in folder.parts)


def _new_folder() -> tuple[Path, int | None]:
    """Return a new folder and the descriptor that holds its lock; None where the file system has no locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        try:
            lock = _locked(folder)
        except OSError:
            return folder, None
        if lock is not None and folder.exists():
            return folder, lock
        # Another process took it for abandoned before it was locked.
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """Lock a folder; return the descriptor that holds the lock, or None if another process has it or removed it.

    Raises:
        OSError: The folder cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders whose processes have ended without removing them."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process may remove the same folders
            if not _NAME.fullmatch(folder.name) or folder.lstat().st_uid != os.geteuid():
                continue
            if (lock := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
