"""Python streams that threads of Arrow read, and the end of the interpreter, which must come after them.

A thread of Arrow's may hold a stream for a moment after its reader was closed, and needs the interpreter to let go of
it. If the interpreter has begun to end by then, it ends that thread, and C++ aborts the process: "terminate called
without an active exception", exit status 134.
"""

from __future__ import annotations

import atexit
import gc
import io
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_MOST_S = 5.0
_lent: WeakSet[io.RawIOBase] = WeakSet()
_readers: WeakSet[Generator[Any, None, None]] = WeakSet()


def lend(stream: io.RawIOBase) -> None:
    """Let the process end only when nothing holds a stream any more, or after five seconds."""
    _lent.add(stream)


def closed_at_end(reader: Generator[T, None, None]) -> Generator[T, None, None]:
    """Return a generator that reads lent streams, and close it before the process ends."""
    _readers.add(reader)
    return reader


@atexit.register
def _wait() -> None:
    if _lent:
        gc.collect()  # a generator that was not read to its end may hold one
        for reader in list(_readers):  # and one that is still referenced
            with suppress(Exception):  # another thread runs it, or its file is damaged
                reader.close()
    deadline = time.monotonic() + _MOST_S
    while _lent and time.monotonic() < deadline:
        time.sleep(0.001)
