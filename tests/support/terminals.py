"""A terminal that a test can read."""

from __future__ import annotations

import io
import re

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """Text stream that says that it is a terminal of 80 columns."""

    def isatty(self) -> bool:
        """Return True."""
        return True

    def text(self) -> str:
        """Return what was written, without colors and movements of the cursor."""
        return _ESCAPES.sub("", self.getvalue())
