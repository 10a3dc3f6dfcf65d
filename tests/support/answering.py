"""The process that ``bsm_core.testing.elsewhere`` shares between its calls, taken from the server of the tests.

An interpreter would import torch, Lightning and transformers anew. A call that asks for a fresh process gets one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from support.processes import HASH_SEED, stop_coverage

from bsm_core.testing import elsewhere


class _Server(SpawnProcess):
    """Process that answers calls, with the few methods of ``subprocess.Popen`` that its owner needs."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._answers = connection
        self._environment = {"PYTHONHASHSEED": HASH_SEED, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(self) -> None:
        stop_coverage()
        process._parent_process = None  # as in an interpreter
        os.environ.update(self._environment)
        elsewhere.serve(self._answers.fileno())

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode


class _Answering(elsewhere._Process):
    """Shared process, which starts when it is first called."""

    def __init__(self) -> None:
        self._connection, self._theirs = multiprocessing.Pipe()
        self.process = _Server(self._theirs)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.process.pid is None:
            self.process.start()
            self._theirs.close()
            atexit.register(self.close)
        return super().call(function, arguments)

    def close(self) -> None:
        if self.process.pid is not None:
            super().close()


def install() -> _Answering:
    """Let the calls of this process share a process of the server, which must be closed before the server ends."""
    elsewhere._shared = shared = _Answering()
    return shared
