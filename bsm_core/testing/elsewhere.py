"""Function calls in other processes: one shared process, a fresh process, or a spawned worker."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bsm_core.testing.checks import CheckFailedError

HASH_SEED = "20261125"
"""``PYTHONHASHSEED`` of the other processes. It differs from this process's, so that the order of sets differs."""
SECONDS = 120.0
"""Seconds that an answer may take."""
_shared: _Process | None = None


class ElsewhereError(CheckFailedError):
    """A call failed in the other process; the text says how."""


def elsewhere(function: Callable[..., Any], *arguments: Any, fresh: bool = False) -> Any:
    """Call a function in another process.

    Args:
        function: A function of a module that the other process can import.
        arguments: Arguments that pickle can transfer; the same holds for the result.
        fresh: Whether to start a process for this call alone. The other calls share one process.

    Raises:
        ElsewhereError: The function raised, the process ended, or something could not be transferred.
    """
    global _shared
    if fresh:
        with contextlib.closing(_Process()) as process:
            return process.call(function, arguments)
    if _shared is None or _shared.process.poll() is not None:
        _shared = _Process()
    return _shared.call(function, arguments)


def in_a_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a daemonic worker that this process spawns, as a data loader does; see :func:`elsewhere`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_answer, args=(theirs, pickle.dumps((function, arguments))), daemon=True)
    worker.start()
    theirs.close()
    try:
        return _receive(ours)
    except EOFError:
        worker.join()
        raise ElsewhereError(f"the worker ended with status {worker.exitcode}") from None
    finally:
        worker.kill()  # the function may have left a thread running
        worker.join()


class _Process:
    """A Python process that answers calls, with this process's ``sys.path``."""

    def __init__(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from bsm_core.testing.elsewhere import serve; serve({theirs.fileno()})"],
            env={**os.environ, "PYTHONHASHSEED": HASH_SEED, "PYTHONPATH": path},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        atexit.register(self.close)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        try:
            self._connection.send((sys.path, pickle.dumps((function, arguments))))
            return _receive(self._connection)
        except (EOFError, ConnectionError):
            raise ElsewhereError(f"the other process ended with status {self.process.wait()}") from None
        except TimeoutError as error:
            self.close()
            raise ElsewhereError(str(error)) from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()


def serve(descriptor: int) -> None:
    """Answer the calls that arrive at a file descriptor until the other side closes it."""
    connection = Connection(descriptor)
    os.dup2(2, 1)  # text that a plugin prints must not reach standard output, which may be JSON
    while True:
        try:
            path, request = connection.recv()
        except EOFError:
            os._exit(0)  # a plugin may have left a thread running
        sys.path[:] = path
        importlib.invalidate_caches()
        _answer(connection, request)


def _answer(connection: Connection, request: bytes) -> None:
    try:
        function, arguments = pickle.loads(request)
        answer = True, pickle.dumps(function(*arguments))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - every error is the answer
        answer = False, f"{type(error).__name__}: {error}".encode(errors="replace")
    connection.send(answer)


def _receive(connection: Connection) -> Any:
    if not connection.poll(SECONDS):
        raise TimeoutError(f"no answer in {SECONDS:g} s")
    succeeded, answer = connection.recv()
    if not succeeded:
        raise ElsewhereError(answer.decode())
    return pickle.loads(answer)
