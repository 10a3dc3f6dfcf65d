"""Types of the arguments of commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from bsm_core.errors import UsageError
from bsm_core.storage.objects import place


def number_from_0(text: str) -> int:
    """Return the number, from 0, that an argument gives."""
    if not (text.isdecimal() and text.isascii()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def path_or_url(text: str) -> Path:
    """Return the path that an argument names. See :func:`bsm_core.storage.objects.place`."""
    try:
        return place(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.one_line()) from error
