"""Standard output of the commands."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """Print; it is no error when the reader of our output has gone, as ``head`` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit, which would fail too
