"""Processes that leave Ctrl-C to the one that starts them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started here never see Ctrl-C, not even while they import: who starts them ends them.

    A terminal sends the signal to all processes. One that is blocked stays so in those that a process starts.
    """
    resource_tracker.ensure_running()  # or the first process would start it, and that lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
