"""A second process, started once, with another hash seed: what is true here must be true there."""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

HASH_SEED = "20261125"
SECONDS = 120.0
"""How long an answer may take."""
_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


class ElsewhereError(Exception):
    """What was asked of the other process failed there."""


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in the other process.

    Args:
        function: It is found there by its name.
        arguments: They travel as pickles, and so does the result.

    Raises:
        ElsewhereError: The function raised, or what it needs is not to be had there; it says what was raised.
    """
    with _lock:
        process = _other()
        assert process.stdin is not None
        assert process.stdout is not None
        # Twice pickled, so that what cannot be unpickled there is an error and no broken pipe.
        request = pickle.dumps((function.__module__, function.__qualname__, pickle.dumps(arguments)))
        _send(process.stdin, pickle.dumps((sys.path, request)))
        if not _answers(process.stdout):
            process.kill()
            process.wait()
            raise ElsewhereError(f"no answer in {SECONDS:g} s")
        try:
            failed, answer = pickle.loads(_receive(process.stdout))
        except EOFError:
            process.wait()
            raise ElsewhereError(f"the other process ended with status {process.returncode}") from None
    if failed:
        raise ElsewhereError(answer)
    return pickle.loads(answer)


def _answers(stream: BinaryIO | Any) -> bool:
    """Whether an answer, or the end of the process, comes in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(SECONDS))


def serve() -> None:
    """The other process: answer until nobody asks."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin prints is no answer
    while True:
        try:
            path, request = pickle.loads(_receive(requests))
        except EOFError:
            os._exit(0)  # also where a plugin has left a thread behind
        sys.path[:] = path
        importlib.invalidate_caches()
        _send(answers, pickle.dumps(_answer(request)))


def _answer(request: bytes) -> tuple[bool, Any]:
    try:
        module, name, arguments = pickle.loads(request)
        function = getattr(importlib.import_module(module), name)
        return False, pickle.dumps(function(*pickle.loads(arguments)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the answer
        return True, f"{type(error).__name__}: {error}"


def _other() -> subprocess.Popen[bytes]:
    global _process
    if _process is None or _process.poll() is not None:
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        code = "from bsm_core.testing.elsewhere import serve; serve()"
        command = [sys.executable, "-c", code]
        _process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(_end, _process)
    return _process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    process.wait()


def _send(stream: BinaryIO | Any, content: bytes) -> None:
    stream.write(len(content).to_bytes(8, "big") + content)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> bytes:
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError
    content: bytes = stream.read(int.from_bytes(size, "big"))
    return content
