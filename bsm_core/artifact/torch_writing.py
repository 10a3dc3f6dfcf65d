"""Writing files of ``torch.save``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def write_torch(value: Any, path: Path) -> None:
    """Write a value with ``torch.save``.

    Raises:
        OSError: The system reports an error. ``torch.save`` itself hides it behind a ``RuntimeError``, and loses it if
            it opens the file.
    """
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
