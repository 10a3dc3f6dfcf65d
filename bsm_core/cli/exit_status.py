"""Exit status of a command: errors and signals become a message and a status."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bsm_core.errors import BSMError, Interrupted
from bsm_core.runtime.log import configure


def exit_status(work: Callable[[], int | None]) -> int:
    """Run a command with log lines on standard error, and return its exit status.

    Args:
        work: The command. It returns its exit status, or None for success.

    Returns:
        The status that the command returned; the status of a :class:`BSMError`, after its message; ``128 + n`` after
        signal ``n``, as in shells; 1 if a plugin called ``sys.exit``. Other exceptions are bugs and are not caught.
    """
    try:
        with _interruptible():
            configure()
            return work() or 0
    except BSMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as interrupted:
        print(f"interrupted by {interrupted}", file=sys.stderr)
        return 128 + interrupted.signal
    except SystemExit:  # raised by a plugin, whose status is not the command's
        traceback.print_exc()
        return 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` on SIGINT (Ctrl-C) and SIGTERM, so that a run can write ``_FAILURE`` first."""
    # Not KeyboardInterrupt: Lightning ends the process when it sees that one.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(number)
