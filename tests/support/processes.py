"""Processes for tests that need not wait for the seconds that torch, Lightning and transformers take to import.

A server process imports these libraries once, and every new process is a fork of the server. The server imports nothing
of bsm and nothing of the tests, so that a new process imports its modules and unpickles its arguments as a new
interpreter does. Environment, working folder, standard output and standard error are those of the parent.

A test of what happens while bsm is imported, or of signals, starts an interpreter with :mod:`subprocess` instead.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, popen_forkserver, process, reduction
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

LIBRARIES = ["torch", "lightning.pytorch", "transformers", "pandas", "pyarrow.parquet"]
SECONDS = 300
"""How long a process of :func:`python` may take."""


@contextmanager
def server() -> Iterator[None]:
    """Let multiprocessing's start method "spawn" take its processes from the server, until the end of the block.

    The server needs private names of multiprocessing. On a Python without them, "spawn" stays what it is.
    """
    if not (
        hasattr(SpawnProcess, "_Popen")
        and hasattr(popen_forkserver.Popen, "_launch")
        and hasattr(forkserver, "_forkserver")
    ):
        yield
        return
    forkserver.set_forkserver_preload(LIBRARIES)
    spawn, SpawnProcess._Popen = SpawnProcess._Popen, staticmethod(_Popen)
    try:
        yield
    finally:
        SpawnProcess._Popen = staticmethod(spawn)
        forkserver._forkserver._stop()  # and wait for its end


def python(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python *arguments`` in a process of the server.

    Args:
        arguments: ``-m`` and a module, or a script; then the arguments of these.
        cwd: The working folder; None for this process's own.
        env: The environment; None for this process's own.

    Returns:
        What :func:`subprocess.run` returns for ``capture_output=True, text=True``.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        surroundings = {"cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ), "path": _path()}
        child = _Interpreter(args=([str(argument) for argument in arguments], surroundings))
        child.streams = (out.fileno(), err.fileno())
        child.start()
        child.join(SECONDS)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, child.exitcode, out.read(), err.read())


@functools.cache
def _path() -> list[str]:
    """Return the path of an interpreter that no variable changes, without the first entry."""
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return list(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))


class _Popen(popen_forkserver.Popen):
    """A process of the server that is pickled after its surroundings."""

    def _launch(self, process_obj: process.BaseProcess) -> None:
        super()._launch(_Surrounded(process_obj))


class _Surrounded:
    def __init__(self, process_obj: process.BaseProcess) -> None:
        self.process = process_obj
        self._name = process_obj.name

    def __reduce__(self) -> tuple[Any, ...]:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        streams = [reduction.DupFd(stream) for stream in getattr(self.process, "streams", (1, 2))]
        return _process, (_Surroundings(dict(os.environ), streams), self.process)


def _process(_: _Surroundings, process_obj: process.BaseProcess) -> process.BaseProcess:
    return process_obj


class _Surroundings:
    def __init__(self, environment: dict[str, str], streams: list[Any]) -> None:
        self.state = environment, streams

    def __setstate__(self, state: dict[str, Any]) -> None:
        environment, streams = state["state"]
        os.environ.clear()
        os.environ.update(environment)
        for stream, copy in zip((1, 2), streams, strict=True):
            os.dup2(copy.detach(), stream)


class _Interpreter(SpawnProcess):
    streams = (1, 2)

    def run(self) -> None:
        arguments, surroundings = self._args
        os.chdir(surroundings["cwd"])
        os.environ.clear()
        os.environ.update(surroundings["env"])
        first = str(Path(arguments[0]).parent) if arguments[0] != "-m" else surroundings["cwd"]
        variable = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:] = [first, *variable, *surroundings["path"]]
        process._parent_process = None  # as in an interpreter that somebody started from a shell
        if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()):
            measured.stop()  # as in an interpreter; the tests run the same lines in processes where they are counted
        try:
            if arguments[0] == "-m":
                sys.argv[:] = arguments[1:]
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv[:] = arguments
                runpy.run_path(arguments[0], run_name="__main__")
        finally:
            atexit._run_exitfuncs()
