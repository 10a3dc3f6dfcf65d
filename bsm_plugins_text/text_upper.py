"""``text_upper``: upper case and plain white space."""

from __future__ import annotations

from bsm_core import TextStep


class TextUpperProcessor(TextStep):
    """Trims, puts into upper case and collapses every run of white space to one space."""

    def process(self, value: str) -> str:
        """One text in upper case."""
        return " ".join(value.upper().split())
