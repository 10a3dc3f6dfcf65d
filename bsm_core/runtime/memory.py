"""Memory of a process: its limit, the C library's allocator, and Python's garbage collector during imports."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsm_core.errors import BSMError, MemoryLimitError

DEFAULT_MAX_CELL_MB = 16
"""Largest text that a run reads, in millions of bytes of UTF-8, if nothing else is set."""
SECONDS_BETWEEN = 1.0
_CORES_A_HEAP = 4
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of glibc's options for ``mallopt``, from ``malloc.h``."""
_LEAST = 1 << 30
"""Bytes of address space, fewer than what PyTorch, Lightning, transformers and Arrow need to be imported."""
_SIGNS = re.compile("allocate memory|bad_alloc|failed to map segment|malloc of size|static TLS", re.IGNORECASE)
"""Words of libraries that report an allocation that failed with another error than ``MemoryError``."""
_SIGNS_AT_LIMIT = re.compile("could not create a primitive|temporarily unavailable|start new thread", re.IGNORECASE)
"""Words of libraries, oneDNN's first, that have other causes as well."""
_NEARLY = 0.9
"""Share of the limit from which on it counts as used up: an allocation that fails leaves no trace in the peak."""
_MAY_HAVE_RUN_OUT = "memory may have run out: "


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


def require_memory_for_libraries() -> None:
    """Check that the limit of this process allows to import the libraries of a run; some crash where memory ends.

    Raises:
        MemoryLimitError: The limit is too low.
    """
    limit = _limit()
    if limit is not None and limit <= _LEAST:
        raise MemoryLimitError(
            f"loading the libraries needs more than {_megabytes(_LEAST)} of address space, and this process may use"
            f" {_megabytes(limit)}",
            fix="raise the limit (ulimit -v), to 4 GB or more, or remove it",
        )


@contextmanager
def explaining_memory() -> Iterator[None]:
    """Name memory in errors of the block that are most likely caused by it, whatever a library makes of it.

    An error becomes a :class:`MemoryLimitError` if the error or one of its causes says that an allocation failed. If
    the process has used up its limit, each exception that is no :class:`BSMError` becomes one, and a :class:`BSMError`
    gets a line about the limit.
    """
    try:
        yield
    except MemoryLimitError:
        raise
    except Exception as error:
        usage = _usage()
        failed = _failed_allocation(error, used_up=usage is not None)
        if failed is None and not usage:
            raise
        if failed is None and isinstance(error, BSMError):
            if not any(line.startswith(_MAY_HAVE_RUN_OUT) for line in error.details):
                error.details += (f"{_MAY_HAVE_RUN_OUT}{usage}",)
            raise
        reason = failed or error
        what = next(iter(str(reason).splitlines()), "")[:200]
        raise MemoryLimitError(
            f"memory ran out: {type(reason).__name__}{': ' if what else ''}{what}",
            details=[words] if (words := usage or limit_in_words()) else [],
            fix="raise the limit (ulimit -v)",
            settings=[{name: "LESS"} for name in ("batch_size", "window_rows", "num_workers")],
        ) from error


def limit_in_words() -> str | None:
    """Return a sentence about the memory that each process of the run may use; None if there is no limit."""
    limit = _limit()
    return None if limit is None else f"a process may use at most {_megabytes(limit)} of address space (ulimit -v)"


def _limit() -> int | None:
    """Return the address space that this process may use, in bytes; None if there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _usage() -> str | None:
    """Return a sentence about the limit and its use; None without a limit, and where it is not nearly used up."""
    limit, words = _limit(), limit_in_words()
    try:
        peak = re.search(r"VmPeak:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:  # not Linux
        return None
    if limit is None or peak is None or (used := int(peak[1]) << 10) < _NEARLY * limit:
        return None
    return f"{words}; this one has used {_megabytes(used)} and needs more"


def _failed_allocation(error: BaseException, used_up: bool) -> BaseException | None:
    """Return the error in a chain of causes that says that an allocation failed."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    signs = (_SIGNS, _SIGNS_AT_LIMIT) if used_up else (_SIGNS,)
    while cause is not None and cause not in chain:
        # A ValueError, pyarrow's ArrowInvalid for example, quotes the data, which may hold these words.
        says_so = not isinstance(cause, ValueError) and any(sign.search(str(cause)) for sign in signs)
        if isinstance(cause, MemoryError) or says_so:
            return cause
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _megabytes(size: int) -> str:
    return f"{size >> 20:,} MB"
