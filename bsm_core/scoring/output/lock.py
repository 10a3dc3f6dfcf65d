"""The lock of an output folder: two runs never write into one folder at the same time.

The lock is a file with a lock of the operating system (``flock``), which ends with the process that holds it, however
that ends. Where another host shares the folder and its ``flock`` is not seen here, the time of the file's last change
says whether the other run lives: its owner renews it.

In an object store, the lock is an object that is made only if there is none, and taken over only if it has not been
renewed since it was looked at. Whether the process that made it lives is known where that was a process of this
machine and container.

A run can lose its lock: somebody removes the folder, or the run stands still for so long that another host takes the
lock over. So a run compares the file with what it wrote into it before each step that would harm another run.

Each shard of a job has a lock of its own, and so has a run without shards. Which of them may be held at the same time,
:meth:`bsm_core.scoring.output.manifest.WorkFolder.held` decides. This module imports nothing slow.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.errors import ObjectChangedError, OutputInUseError, SinkError, printable
from bsm_core.runtime import durable
from bsm_core.storage.objects import ObjectPath, Status

if TYPE_CHECKING:
    from obstore import UpdateVersion

HEARTBEAT_S = 20.0
"""Seconds between two renewals of the lock."""
STALE_S = 120.0
"""Age of the last renewal after which a lock of another host counts as left over."""
_held: set[bytes] = set()
"""Contents of the locks that this process holds."""
_UNSUPPORTED = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Lock:
    """Lock that a run holds. It can be sent to the other processes of the run.

    Attributes:
        path: The lock file.
        content: Content of the file while the run holds it. No other run writes the same.
    """

    path: Path
    content: bytes

    def is_lost(self) -> bool:
        """Return whether the file was removed, or is another run's. A file that cannot be read is not lost."""
        try:
            return self.path.read_bytes() != self.content
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def require(self) -> None:
        """Check that the run still holds the lock.

        Raises:
            SinkError: The run has lost it.
        """
        if self.is_lost():
            raise SinkError(
                "while this run wrote into the output folder, the folder was removed or another run took it over",
                where=str(self.path.parent.parent),
                fix="run again when no other run writes there",
            )


@contextmanager
def holding(path: Path, hosts: int = 0) -> Iterator[Lock]:
    """Hold a lock inside the block, and remove it afterwards.

    Args:
        path: The lock file. Its folder is created, and afterwards removed if nothing else is in it.
        hosts: Number of hosts of the job, for :func:`require_free`; 0 if it has no shards.

    Returns:
        The lock.

    Raises:
        OutputInUseError: Another run holds the lock.
        SinkError: The file cannot be written.
    """
    lock = Lock(path, json.dumps({**_myself(), "hosts": hosts}).encode())
    _held.add(lock.content)  # first: for another thread, the process of the owner is its own
    try:
        with durable.writing(path.parent):
            held = _HeldObject(lock, path) if isinstance(path, ObjectPath) else _HeldFile(lock)
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(held, ended), name="bsm-lock", daemon=True)
        try:
            renewal.start()
            yield lock
        finally:
            ended.set()
            if renewal.is_alive():
                renewal.join()  # it uses the descriptor
            if not lock.is_lost():
                with suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()
            with suppress(OSError):  # the lock has ended all the same
                held.close()
    finally:
        _held.discard(lock.content)


def require_free(path: Path, hosts: int) -> None:
    """Check that no run holds another lock of the output folder. The lock itself is left as it is.

    A run does this when it holds its own lock. So of two runs that begin at the same moment, at least one sees the
    other; a lock that does not say yet who holds it is that of a run that will look itself.

    Args:
        path: The other lock.
        hosts: Number of hosts whose shards may hold it; 0: no run may.

    Raises:
        OutputInUseError: A run holds it.
    """
    with suppress(FileNotFoundError, NotADirectoryError):  # it has just been removed, or there is none
        content = path.read_bytes()
        owner = _parsed(content)
        if not owner or (hosts and owner.get("hosts") == hosts) or _has_ended(content):
            return
        if isinstance(path, ObjectPath):
            age = _age_of_object(path, path.lookup())
        else:
            with path.open("rb") as file:
                age = _age(file.fileno(), path)
        if age < STALE_S:
            raise _in_use(path, owner)


class _HeldFile:
    """A lock file that is held."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self._descriptor = _acquire(lock)

    def renew(self) -> None:
        """Set the time of the last renewal."""
        os.utime(self._descriptor)  # not the path, which may be another run's by now

    def close(self) -> None:
        """End the lock of the operating system."""
        os.close(self._descriptor)


class _HeldObject:
    """A lock object that is held."""

    def __init__(self, lock: Lock, path: ObjectPath) -> None:
        self.lock, self._path = lock, path
        self._version = self._make()

    def _make(self) -> UpdateVersion:
        while True:
            with suppress(FileExistsError):
                return self._path.put(self.lock.content, mode="create")
            with suppress(FileNotFoundError, ObjectChangedError):  # its owner has just removed or renewed it
                found = self._path.lookup()
                content = self._path.read_bytes()
                # Our own if the answer to an earlier request was lost.
                free = content == self.lock.content or _has_ended(content)
                if not free and _age_of_object(self._path, found) < STALE_S:
                    raise _in_use(self._path, _parsed(content))
                return self._path.put(self.lock.content, mode=found.mode)

    def renew(self) -> None:
        """Write the object again, if it is still the one that this run has written."""
        try:
            self._version = self._path.put(self.lock.content, mode=self._version)
        except ObjectChangedError:  # by another run, or by this one, if the answer to its last request was lost
            self._version = self._path.lookup().mode

    def close(self) -> None:
        """Do nothing: an object has no lock of the operating system."""


def _has_ended(content: bytes) -> bool:
    """Return whether a lock names a process of this machine and container that has ended."""
    owner = _parsed(content)
    return owner.get("machine") == _machine() and not _lives(owner) and content not in _held


def _age_of_object(path: ObjectPath, found: Status) -> float:
    """Return the seconds since the last renewal, by the clock of the store: clocks of hosts may differ."""
    clock = path.with_name(f"clock-{os.urandom(8).hex()}")
    clock.put(b"")
    now = clock.lookup()
    clock.unlink()
    return (now.changed - found.changed) / 10**9


def _machine() -> str:
    """Return a text that no machine and no container shares with another: numbers of processes mean nothing there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux: nobody can tell whether a process lives
        return os.urandom(16).hex()


def _acquire(lock: Lock) -> int:
    """Lock the file, and return its descriptor."""
    path = lock.path
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its last owner has just removed the folder
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            path.unlink(missing_ok=True)  # a link to another file, which is not to be written
            continue
        try:
            if _take(descriptor, lock):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, lock: Lock) -> bool:
    """Lock the open file and write into it who holds it; return False if it is not, or no longer, the lock file."""
    path = lock.path
    if os.fstat(descriptor).st_nlink > 1:  # another file, which is not to be written, by a second name
        path.unlink(missing_ok=True)
        return False
    _lock(descriptor, path)
    if not _is(descriptor, path):  # its last owner has removed it since it was opened
        return False
    owner = _owner(descriptor)
    if owner and owner.get("host") != socket.gethostname() and _age(descriptor, path) < STALE_S:
        raise _in_use(path, owner)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, lock.content, 0)
    return True


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path, _owner(descriptor)) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        owner = _owner(descriptor)  # a file system without flock: believe what the file says
        if owner.get("host") == socket.gethostname() and _lives(owner):
            raise _in_use(path, owner) from error


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _age(descriptor: int, path: Path) -> float:
    """Return the seconds since the last renewal, by the clock of the file system: clocks of hosts may differ."""
    with tempfile.TemporaryFile(dir=path.parent) as now:
        os.utime(now.fileno())  # a renewal does the same
        return abs(os.fstat(now.fileno()).st_mtime - os.fstat(descriptor).st_mtime)


def _owner(descriptor: int) -> dict[str, Any]:
    """Return what a lock file says of its owner; nothing if the file was just made, or cannot be read."""
    return _parsed(os.pread(descriptor, 4096, 0))


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _myself() -> dict[str, Any]:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    unique = os.urandom(8).hex()  # in containers, host and process can be the same
    names = {"host": socket.gethostname(), "machine": _machine(), "process": os.getpid()}
    return {**names, "started": started, "run": unique}


def _lives(owner: dict[str, Any]) -> bool:
    """Return whether the process of an owner on this host lives, and is not this one.

    A lock that names this process is left over: the main process of a container has the same number after each start.
    """
    try:
        process = int(owner["process"])
        if process == os.getpid():
            return False
        os.kill(process, 0)
    except (KeyError, TypeError, ValueError, ProcessLookupError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _in_use(path: Path, owner: dict[str, Any]) -> OutputInUseError:
    names = ("process", "host", "started")
    process, host, started = (printable(str(owner.get(name, "unknown")), 80) for name in names)
    fix = "wait for it or end it"
    if owner.get("machine") != _machine():
        fix += f", or if its machine was lost, run again in {STALE_S:.0f} seconds"
    return OutputInUseError(
        f"another run writes into this folder: process {process} on host {host}, started {started}",
        where=str(path.parent.parent),
        fix=fix,
        settings=[{"output_dir": "ANOTHER"}],
    )


def _renew(held: _HeldFile | _HeldObject, ended: threading.Event) -> None:
    while not (ended.wait(HEARTBEAT_S) or held.lock.is_lost()):
        with suppress(OSError):  # EIO or ESTALE may pass, and without renewals another host would take the lock over
            held.renew()
