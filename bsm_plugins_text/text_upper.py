"""Text step ``text_upper``: upper case, and single spaces."""

from __future__ import annotations

from bsm_core import TextStep, added_text


class TextUpperProcessor(TextStep):
    """Step that converts text to upper case, trims it, and replaces every run of white space by one space."""

    def process(self, value: str) -> str:
        """Return the text in upper case."""
        return added_text(" ", value).join(value.upper().split())
