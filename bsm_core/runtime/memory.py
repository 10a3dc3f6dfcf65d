"""Memory of a process: settings of the C library's allocator, and Python's garbage collector during imports."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN = 1.0
_CORES_A_HEAP = 4
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of glibc's options for ``mallopt``, from ``malloc.h``."""


class FreeMemory:
    """Freed memory of the process: kept during a window, returned to the system after it, at most once per second.

    Each layer of each micro-batch allocates the same few megabytes. By default, glibc returns them to the system each
    time and receives new pages, which the system must fill with zeros; on fast processors that costs a tenth of the
    time. By default, glibc also has a heap for each thread.

    Micro-batches have hundreds of sizes, so the freed memory is fragmented, and without :meth:`give_back` a process
    grows over many windows (``benchmarks/memory.py``). One call takes about 20 ms. C libraries other than glibc have no
    ``mallopt`` and no ``malloc_trim``; there the class does nothing.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._last = time.monotonic()
        if self._trim is not None:
            library.mallopt(_TRIM_THRESHOLD, 2**29)
            library.mallopt(_MMAP_THRESHOLD, 2**25)
            library.mallopt(_ARENA_MAX, max(1, (os.cpu_count() or 1) // _CORES_A_HEAP))

    def give_back(self) -> bool:
        """Return freed memory to the system, unless that was done in the last second; return whether it was done."""
        if self._trim is None or time.monotonic() - self._last < SECONDS_BETWEEN:
            return False
        self._trim(0)
        self._last = time.monotonic()
        return True


@contextmanager
def starting() -> Iterator[None]:
    """Switch the garbage collector off inside the block, and exclude all objects of the imports from later collections.

    For imports at the start of a process: imported objects live until its end. Importing torch and Lightning and ending
    the process together take a third less time (``benchmarks/startup.py``).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
