"""Standard output of the commands."""

from __future__ import annotations

import os
import sys

from bsm_core.errors import printable


def say(text: str) -> None:
    """Print a text of one or more lines; what is not printable is shown as escapes.

    A reader that has closed its end of a pipe, as ``head`` does, is no error.
    """
    try:
        print("\n".join(printable(line, None) for line in text.split("\n")), flush=True)
    except BrokenPipeError:
        # Python flushes standard output once more when the process ends, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
