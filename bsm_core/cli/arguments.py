"""Arguments of commands that are paths."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bsm_core.errors import UsageError
from bsm_core.storage.objects import place

FILE, FOLDER = "file", "directory"
"""Names of shtab for what a shell completes."""


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


def add_path(
    parser: argparse._ActionsContainer, *names: str, completes: str = FILE, kind: Any = path_or_url, **options: Any
) -> None:
    """Add an argument that is a path, which shells complete.

    Args:
        parser: A parser, or a group of its arguments.
        names: Name of the argument, or its flags.
        completes: What a shell completes: :data:`FILE`, files and folders; or :data:`FOLDER`, folders alone.
        kind: Function of the text that returns the argument; None: the text itself.
        options: Further arguments of ``add_argument``.
    """
    action = parser.add_argument(*names, type=kind, **options)
    action.complete = completes  # type: ignore[attr-defined]  # shtab looks for it
