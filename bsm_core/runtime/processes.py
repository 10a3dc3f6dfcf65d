"""Child processes that ignore Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT in the processes that are started inside the block.

    On Ctrl-C a terminal sends SIGINT to all processes of a run. Child processes must leave it to the process that
    started them, which ends them. A child process inherits blocked signals, so it ignores SIGINT from its first moment.
    """
    # multiprocessing would start its resource tracker together with the first process, and that unblocks SIGINT.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
