"""What a command's end means to the shell: errors and signals become a message and an exit status."""

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
    """Run a command with log lines on standard error, and turn how it ends into an exit status.

    Args:
        work: The command; returns its exit status, None for success.

    Returns:
        What the command returned; the error's own status after a message for a :class:`BSMError`; ``128 + n`` after
        signal ``n``, as shells have it; 1 where a plugin called ``sys.exit``. A bug's traceback is not caught.
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
    except SystemExit:  # of a plugin; its status is not the command's
        traceback.print_exc()
        return 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and a container's stop end the run, which then leaves ``_FAILURE``."""
    # Not KeyboardInterrupt: Lightning answers that one by leaving the process.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(number)
