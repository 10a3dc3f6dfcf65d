"""Python streams that threads of Arrow read, and the end of the interpreter, which must come after them.

A thread of Arrow's may hold a stream for a moment after its reader was closed, and needs the interpreter to let go of
it. If the interpreter has begun to end by then, it ends that thread, and C++ aborts the process: "terminate called
without an active exception", exit status 134.
"""

from __future__ import annotations

import atexit
import gc
import io
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import pyarrow as pa

from bsm_core.storage.objects import ObjectPath

T = TypeVar("T")

_MOST_S = 5.0
_lent: WeakSet[io.RawIOBase] = WeakSet()
_readers: set[Reader[Any]] = set()


def lend(stream: io.RawIOBase) -> None:
    """Let the process end only when nothing holds a stream any more; after five seconds, if all readers are closed."""
    _lent.add(stream)


def arrow_file(path: Path, stop: int | None = None) -> pa.NativeFile:
    """Open a file or an object for Arrow.

    Args:
        path: The file or object.
        stop: Position after which nothing of an object is read ahead. None: the end.

    Raises:
        OSError: It cannot be opened. Reading raises this error too.
    """
    if not isinstance(path, ObjectPath):
        return pa.OSFile(str(path))
    stream = path.reader(stop)
    lend(stream)
    return pa.PythonFile(stream, "r")


class Reader(Iterator[T]):
    """Iterator over what a generator reads from lent streams. Whoever does not read it to its end must close it.

    Until then it is referenced here, and the garbage collector, which may run in the thread of Arrow's that reads the
    stream, does not close it: that thread would wait for itself for ever.

    Args:
        generator: The generator.
    """

    def __init__(self, generator: Generator[T, None, None]) -> None:
        self._generator = generator
        _readers.add(self)

    def __next__(self) -> T:
        try:
            return next(self._generator)
        except BaseException:
            _readers.discard(self)
            raise

    def close(self) -> None:
        """End the generator.

        In a thread that Python did not start, such as Arrow's, where only the garbage collector calls this, do nothing:
        the reader stays referenced, and is closed when the process ends.
        """
        if not _is_thread_of_python():
            return
        _readers.discard(self)
        self._generator.close()


def _is_thread_of_python() -> bool:
    """Return whether Python started this thread; of others, ``threading`` knows nothing, or only a dummy."""
    this = threading.get_ident()
    return any(each.ident == this and not each.name.startswith("Dummy-") for each in threading.enumerate())


@atexit.register
def _wait() -> None:
    if _lent:
        gc.collect()
        for reader in list(_readers):  # those that were not read to their end
            with suppress(Exception):  # another thread runs it, or its file is damaged
                reader.close()
    deadline = time.monotonic() + _MOST_S
    while _lent and time.monotonic() < deadline:
        time.sleep(0.001)
