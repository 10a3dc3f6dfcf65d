"""Keeps the memory of a long run flat, and Python from looking for garbage where there is none."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN = 1.0
_CORES_A_HEAP = 4
_KEEPING = {
    "trim_threshold": (-1, 2**29),
    "mmap_threshold": (-3, 2**25),
    "arena_max": (-8, max(1, (os.cpu_count() or 1) // _CORES_A_HEAP)),
}
"""Settings of glibc's ``mallopt``: their numbers in ``malloc.h``, and what they become."""


class FreeMemory:
    """Keeps free memory within a window, and gives it back to the system behind one, at most once a second.

    Every layer of every micro-batch asks for the same few megabytes. glibc by itself gives them back each time, to be
    given new pages of zeros: on fast processors that is a tenth of the time. And it keeps a heap for each thread.

    Micro-batches come in hundreds of sizes, and glibc keeps what they leave behind in pieces: over many windows a
    process grows by memory that no row needs (``benchmarks/memory.py``). Giving it back takes some 20 ms. Other C
    libraries have neither ``mallopt`` nor ``malloc_trim``, and then nothing is done.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._last = time.monotonic()
        if self._trim is not None:
            for number, value in _KEEPING.values():
                library.mallopt(number, value)

    def give_back(self) -> bool:
        """Whether it was done now."""
        if self._trim is None or time.monotonic() - self._last < SECONDS_BETWEEN:
            return False
        self._trim(0)
        self._last = time.monotonic()
        return True


@contextmanager
def starting() -> Iterator[None]:
    """For the imports of a process that is ours: what they make stays to its end.

    Meanwhile nothing is collected, and what is there afterwards is never looked through again, not at exit either. Of
    the time that torch and Lightning take to import, and Python to end behind them, that saves a third
    (``benchmarks/startup.py``).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
