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
from weakref import WeakSet

_MOST_S = 5.0
_lent: WeakSet[io.RawIOBase] = WeakSet()


def lend(stream: io.RawIOBase) -> None:
    """Let the process end only when nothing holds a stream any more, or after five seconds."""
    _lent.add(stream)


@atexit.register
def _wait() -> None:
    if _lent:
        gc.collect()  # a generator that was not read to its end may hold one
    deadline = time.monotonic() + _MOST_S
    while _lent and time.monotonic() < deadline:
        time.sleep(0.001)
