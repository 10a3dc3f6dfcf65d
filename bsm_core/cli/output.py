"""Standard output of the commands."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """Print a text. A reader that has closed its end of a pipe, as ``head`` does, is no error."""
    try:
        print(text.encode(errors="backslashreplace").decode(), flush=True)  # a file name need not be Unicode
    except BrokenPipeError:
        # Python flushes standard output once more when the process ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
