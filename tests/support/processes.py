"""Processes for tests that need not wait for the seconds that torch, Lightning and transformers take to import.

A server process imports these libraries once, and every new process is a fork of the server. The server imports nothing
of bsm and nothing of the tests, so that a new process imports its modules and unpickles its arguments as a new
interpreter does. Environment, working folder, standard output and standard error are those of the parent.

A test of what happens while the libraries are imported starts an interpreter with :mod:`subprocess` instead.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, popen_forkserver, process, reduction, resource_tracker, spawn
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO, Any
from unittest import mock

LIBRARIES = ["torch", "lightning.pytorch", "transformers", "pandas", "pyarrow.parquet"]
HASH_SEED = "20261125"
"""Seed of the server's hashes: that of ``bsm_core.testing.elsewhere``, and thus not that of the tests."""
TESTS = Path(__file__).parents[1]
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
        for child in multiprocessing.active_children():  # the traceback of a failed test may keep one alive
            child.kill()
        forkserver._forkserver._stop()  # and wait for its end


def python(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python *arguments`` in a process of the server.

    Args:
        arguments: ``-m`` and a module, ``-c`` and code, or a script; then the arguments of these.
        cwd: The working folder; None for this process's own.
        env: The environment; None for this process's own.

    Returns:
        What :func:`subprocess.run` returns for ``capture_output=True, text=True``.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = _start(arguments, (out.fileno(), err.fileno()), cwd, env)
        child.join(SECONDS)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, child.exitcode, out.read(), err.read())


class Running:
    """Command ``python *arguments`` that runs in a process of the server, for tests that send signals to it.

    Attributes:
        stdout: Reads what the process prints.
    """

    def __init__(self, *arguments: str | Path) -> None:
        (out, to_out), (err, to_err) = os.pipe(), os.pipe()
        self.stdout, self._stderr = os.fdopen(out), os.fdopen(err)
        self._process = _start(arguments, (to_out, to_err), None, None)
        os.close(to_out)
        os.close(to_err)

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def finish(self, seconds: float = 30) -> tuple[int | None, str]:
        """Wait until no process holds the pipes any more, children included; return the exit status and the errors."""
        with self.stdout, self._stderr:
            end = time.monotonic() + seconds
            while select.select([self.stdout], [], [], max(0, end - time.monotonic()))[0]:
                if not os.read(self.stdout.fileno(), 4096):
                    self._process.join(seconds)
                    return self._process.exitcode, self._stderr.read()
            raise TimeoutError(f"a process still runs after {seconds} s")


class Child:
    """Command ``python *arguments`` in a process of the server, with the methods of :class:`subprocess.Popen`.

    Args:
        arguments: See :func:`python`.
        said: Open file for what the process prints.

    Attributes:
        pid: Number of the process.
    """

    def __init__(self, *arguments: str | Path, said: IO[str]) -> None:
        self._process = _start(arguments, (said.fileno(), said.fileno()), None, None)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, or None if the process has not ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit status."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("python", timeout or 0)
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()


def descendants(process: int) -> dict[int, str]:
    """Return the processes that a process has started, and those that they have started, with their command lines."""
    found, parents = {process: ""}, dict[int, tuple[int, str]]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):  # it has ended just now
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = parent, (folder / "cmdline").read_text().replace("\0", " ").strip()
    for number in sorted(parents):  # a process has a higher number than its parent, but where numbers begin anew
        parent, command = parents[number]
        if parent in found:
            found[number] = command
    return {number: command for number, command in found.items() if number != process}


def _start(
    arguments: tuple[str | Path, ...], streams: tuple[int, int], cwd: Path | None, env: Mapping[str, str] | None
) -> _Interpreter:
    surroundings = {"cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ), "path": _path()}
    child = _Interpreter(args=([str(argument) for argument in arguments], surroundings))
    child.streams = streams
    child.start()
    return child


@functools.cache
def _path() -> list[str]:
    """Return the path of an interpreter that no variable changes, without the first entry."""
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return list(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))


class _Popen(popen_forkserver.Popen):
    """A process of the server that is pickled after its surroundings."""

    def _launch(self, process_obj: process.BaseProcess) -> None:
        with mock.patch.dict(os.environ, PYTHONHASHSEED=HASH_SEED):  # of the server, if this is its first process
            forkserver.ensure_running()
        super()._launch(_Surrounded(process_obj))


class _Surrounded:
    def __init__(self, process_obj: process.BaseProcess) -> None:
        self.process = process_obj
        self._name = process_obj.name

    def __reduce__(self) -> tuple[Any, ...]:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        streams = [reduction.DupFd(stream) for stream in getattr(self.process, "streams", (1, 2))]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        address = forkserver._forkserver._forkserver_address
        return _process, (_Surroundings(dict(os.environ), streams, blocked, address), self.process)


def _process(_: _Surroundings, process_obj: process.BaseProcess) -> process.BaseProcess:
    return process_obj


class _Surroundings:
    def __init__(self, *state: Any) -> None:
        self.state = state

    def __setstate__(self, state: dict[str, Any]) -> None:
        environment, streams, blocked, address = state["state"]
        os.environ.clear()
        os.environ.update(environment)
        for stream, copy in zip((1, 2), streams, strict=True):
            os.dup2(copy.detach(), stream)
        importlib.invalidate_caches()  # the server may have seen a folder of the path before it was made
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        forkserver._forkserver._forkserver_address = address  # the processes that this one starts are the server's too
        forkserver._forkserver.ensure_running = resource_tracker.ensure_running  # type: ignore[method-assign]
        forkserver.ensure_running = resource_tracker.ensure_running
        SpawnProcess._Popen = staticmethod(_Popen)


class _Interpreter(SpawnProcess):
    streams = (1, 2)

    def run(self) -> None:
        arguments, surroundings = self._args
        os.chdir(surroundings["cwd"])
        os.environ.clear()
        os.environ.update(surroundings["env"])
        kind, *rest = arguments
        first = str(Path(kind).parent) if kind not in ("-m", "-c") else surroundings["cwd"]
        variable = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:] = [first, *variable, *surroundings["path"]]
        process._parent_process = None  # as in an interpreter that somebody started from a shell
        stop_coverage()
        try:
            if kind == "-m":
                sys.argv[:] = rest
                if rest[0] == "pytest":  # of a plugin, whose checks call functions in other processes
                    importlib.import_module("support.answering").install()
                    sys.argv += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # about modules of the server
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            elif kind == "-c":
                sys.argv[:] = ["-c", *rest[1:]]
                sys.modules["__main__"] = types.ModuleType("__main__")
                exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
            else:
                sys.argv[:] = arguments
                runpy.run_path(kind, run_name="__main__")
        finally:
            atexit._run_exitfuncs()


def stop_coverage() -> None:
    """Measure neither this process nor those that it starts, as if it were an interpreter.

    The tests run the same lines in processes where they are counted.
    """
    if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()):
        measured.stop()
    prepare = spawn.get_preparation_data

    def untraced(name: str) -> dict[str, Any]:
        data = {key: value for key, value in prepare(name).items() if key != "stowaway"}  # by which coverage travels
        return {**data, "sys_path": [*data["sys_path"], str(TESTS)]}  # where this module is

    spawn.get_preparation_data = untraced
