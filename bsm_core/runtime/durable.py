"""Writing files so that they are whole, and still there after a power failure, with errors for people.

An object of an object store is written by one request, whole or not at all, so it needs no name for the time before it
is complete. It cannot grow: lines that are appended to it are objects of their own.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from bsm_core.errors import BSMError, SinkError
from bsm_core.storage.objects import ObjectPath

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def writing(destination: Path) -> Iterator[None]:
    """Turn errors of the operating system into one that says what could not be written.

    Args:
        destination: File or folder that the block writes. A file inside it is named if the system names it; other
            files are temporary.

    Raises:
        SinkError: The operating system reported an error.
    """
    try:
        yield
    except BSMError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text is longer
        if error.errno == errno.ENOENT and not destination.parent.exists():
            reason = f"{reason}: there is no folder {destination.parent}"
        inside = error.filename and Path(os.fsdecode(error.filename)).is_relative_to(destination)
        fix = ("free space there, or " * (error.errno in _FULL)) + "choose a destination that can be written to"
        if isinstance(destination, ObjectPath):
            fix = "look whether the folder for temporary files has enough space, or set TMPDIR to another folder"
        where = os.fsdecode(error.filename) if inside else str(destination)
        raise SinkError(f"could not be written: {reason}", where=where, fix=fix) from error


def require_can_write(folder: Path) -> None:
    """Check that files can be written to a folder, or that it can be made. Nothing is written.

    Of an object store, nothing is checked: its rules show only when something is written.

    Raises:
        SinkError: The folder, or the one that it would be made in, is a file or refuses this user.
    """
    if isinstance(folder, ObjectPath):
        return
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    with writing(folder):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(there))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "", str(there))


def flush(path: Path) -> None:
    """Wait until a file, or the list of the files in a folder, is on the disk.

    Raises:
        OSError: The system reports an error.
    """
    if isinstance(path, ObjectPath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(temporary: Path, path: Path) -> None:
    """Flush a file, rename it, and flush the folder: afterwards ``path`` is the old file or the whole new one.

    Args:
        temporary: The new file, in the folder of :func:`bsm_core.storage.temporary.scratch` for the one of ``path``.
        path: Its name from now on. A file of this name is replaced.

    Raises:
        OSError: The system or the store reports an error.
    """
    if isinstance(path, ObjectPath):
        path.put(temporary)
        temporary.unlink()
        return
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def _create(path: Path) -> BinaryIO:
    """Open a new file for writing. What had its name is removed; where that was a link, its target stays as it is.

    Raises:
        OSError: The system reports an error.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def store(path: Path, content: memoryview) -> None:
    """Write a new file and flush it. A process that is killed may leave an incomplete file, but no object.

    Raises:
        OSError: The system or the store reports an error.
    """
    if isinstance(path, ObjectPath):
        path.put(content)
        return
    with _create(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def temporary_of(path: Path) -> Path:
    """Return the file that :func:`write` writes before it has its name; a process that is killed may leave it."""
    return path.with_name(f".{path.name}.tmp")


def write(path: Path, text: str, temporary: Path | None = None) -> None:
    """Write a small text file, completely or not at all. See :func:`replace`.

    Args:
        path: The file.
        text: Its content.
        temporary: The new file until it has its name. None: that of :func:`temporary_of`, for a file that no other
            process writes at the same time.
    """
    content = text.encode("utf-8", "backslashreplace")
    if isinstance(path, ObjectPath):
        path.put(content)
        return
    temporary = temporary or temporary_of(path)
    try:
        with _create(temporary) as file:
            file.write(content)
    except OSError:
        with suppress(OSError):  # where the disk is full, the beginning of the file must not stay
            temporary.unlink()
        raise
    replace(temporary, path)


def write_lines(path: Path, lines: str) -> None:
    """Write a file to which lines are appended later. See :func:`write`."""
    write(path, lines)
    if isinstance(path, ObjectPath):
        path.remove_tree()


def append(path: Path, line: str) -> None:
    """Append a line to a text file, and flush it. Several threads may append to the same file.

    Processes of several hosts must not: on a network file system, lines can be lost.

    Raises:
        OSError: The system or the store reports an error; the file may end with a part of the line.
    """
    if isinstance(path, ObjectPath):
        (path / f"{time.time_ns():020d}-{os.urandom(4).hex()}").put(f"{line}\n".encode())
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        content = f"{line}\n".encode()
        written = os.write(descriptor, content)  # one call: lines of several threads do not mix
        if written < len(content):
            os.write(descriptor, content[written:])  # raises the error that cut the line off
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path, seen: int = 0) -> tuple[list[str], int]:
    """Return the whole lines of a text file, with those that were appended, in order; none if there is no file.

    Args:
        path: The file.
        seen: What an earlier call returned beside the lines, to get the lines that are new since. In an object store,
            lines are missed that a process has appended at about the same time, or whose clock is behind.

    Returns:
        The lines, and a number that stands for what was read.

    Raises:
        OSError: The system or the store reports an error.
    """
    if isinstance(path, ObjectPath):
        appended = sorted(path.objects(f"{seen:020d}-~" if seen else ""))
        paths = appended if seen else [path, *appended]
        lines = [line for content in in_parallel(_content, paths) for line in _whole(content)]
        return lines, max([seen, 1, *(int(each.name[:20]) for each in appended if each.name[:20].isdecimal())])
    content = _content(path, seen)
    return _whole(content), seen + content.rfind(b"\n") + 1


def _content(path: Path, start: int = 0) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""


def _whole(content: bytes) -> list[str]:
    """Return the lines that have an end: a line without one is still being written, or was torn by a crash."""
    return content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def in_parallel(function: Callable[[T], R], values: Iterable[T], most: int = 16) -> Iterator[R]:
    """Yield what a function returns for each value, in order, while threads call it for a number of the next ones."""
    with ThreadPoolExecutor(most) as pool:
        waiting = deque[Future[R]]()
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def remove_tree(folder: Path) -> None:
    """Remove a folder, if there is one.

    Raises:
        OSError: The system or the store reports an error.
    """
    if isinstance(folder, ObjectPath):
        folder.remove_tree()
    elif folder.is_dir():
        shutil.rmtree(folder)
