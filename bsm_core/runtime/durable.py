"""Writing files so that they are whole, and still there after a power failure, with errors for people."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bsm_core.errors import BSMError, SinkError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        raise SinkError(
            f"could not be written: {reason}",
            where=os.fsdecode(error.filename) if inside else str(destination),
            fix=("free space there, or " * (error.errno in _FULL)) + "choose a destination that can be written to",
        ) from error


def flush(path: Path) -> None:
    """Wait until a file, or the list of the files in a folder, is on the disk.

    Raises:
        OSError: The system reports an error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(temporary: Path, path: Path) -> None:
    """Flush a file, rename it, and flush the folder: afterwards ``path`` is the old file or the whole new one.

    Args:
        temporary: The new file, in the same file system as ``path``.
        path: Its name from now on. A file of this name is replaced.

    Raises:
        OSError: The system reports an error.
    """
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def create(path: Path) -> BinaryIO:
    """Open a new file for writing. What had its name is removed; where that was a link, its target stays as it is.

    Raises:
        OSError: The system reports an error.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


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
    temporary = temporary or temporary_of(path)
    with create(temporary) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    replace(temporary, path)


def append(path: Path, line: str) -> None:
    """Append a line to a text file, and flush it. Several processes of one host may append to the same file.

    Raises:
        OSError: The system reports an error; the file may end with a part of the line.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        content = f"{line}\n".encode()
        written = os.write(descriptor, content)  # one call: lines of several processes do not mix
        if written < len(content):
            os.write(descriptor, content[written:])  # raises the error that cut the line off
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
