"""Types of the arguments of commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from bsm_core.errors import UsageError
from bsm_core.storage.objects import place


def path_or_url(text: str) -> Path:
    """Return the path that an argument names. See :func:`bsm_core.storage.objects.place`."""
    try:
        return place(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.one_line()) from error
