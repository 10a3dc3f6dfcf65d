"""Child processes: they leave signals of the terminal to their parent, and end when it ends."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT and SIGHUP in the processes that are started inside the block.

    A terminal sends SIGINT to all processes of a run on Ctrl-C, and SIGHUP when it is closed. Child processes must
    leave them to the process that started them, which ends them. A child process inherits blocked signals, so it
    ignores these from its first moment.
    """
    # multiprocessing would start its resource tracker together with the first process, and that unblocks SIGINT.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def without_main_module() -> Iterator[None]:
    """Keep the processes that are started inside the block from importing the main module of this process.

    multiprocessing imports it in each of them, so a script that starts a run would be run again, by each of its
    processes. Their functions and arguments are from no main module.
    """
    main = vars(sys.modules["__main__"])
    before: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(before)


def end_with_parent() -> None:
    """End this process as soon as the process that started it ends, by ``kill -9`` too; for child processes.

    A thread waits for that. Linux can send a signal instead (``PR_SET_PDEATHSIG``), but it does so when the *thread*
    ends that started this process, and other systems cannot.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def call_pickled(content: bytes, *more: Any) -> None:
    """Call a function in a child process that ends with its parent from the first moment.

    As the target of the process itself, the function would first be unpickled, with all the libraries that it imports:
    for these seconds, the process would outlive its parent.

    Args:
        content: The function and its first arguments, pickled.
        more: Further arguments, such as connections, which only multiprocessing can pickle.
    """
    end_with_parent()
    function, arguments = pickle.loads(content)
    function(*arguments, *more)


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def how_it_ended(exitcode: int) -> str:
    """Return words for the exit code of a child process, such as ``was killed by SIGKILL``.

    Args:
        exitcode: As :attr:`multiprocessing.Process.exitcode` returns it; ``128 + n`` is taken for signal ``n``.
    """
    number = -exitcode if exitcode < 0 else exitcode - 128
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exited with {exitcode}"
