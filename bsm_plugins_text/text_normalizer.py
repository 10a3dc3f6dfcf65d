"""Text step ``text_normalizer``: lower case, single spaces and ASCII punctuation."""

from __future__ import annotations

from bsm_core import TextStep, added_text
from bsm_plugins_text.original import Compat

_PLAIN: dict[int, int | str] = {
    **dict.fromkeys(map(ord, "‘’‚‛‹›"), "'"),
    **dict.fromkeys(map(ord, "“”„‟«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣"), "-"),
    ord("…"): "...",
    **{full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)},  # full-width ASCII characters
}


class TextNormalizationProcessor(TextStep):
    """Step that replaces different spellings of a text by one spelling.

    Args:
        lowercase: Whether to convert the text to lower case.
        whitespace: Whether to replace every run of white space by one space, and remove it at both ends.
        punctuation: Whether to replace typographic quotes, dashes, the ellipsis and full-width characters by ASCII.
        compat: ``"original"``: ``punctuation`` is false.
    """

    uses = ("compat",)

    def __init__(
        self, lowercase: bool = True, whitespace: bool = True, punctuation: bool = True, compat: Compat = None
    ) -> None:
        self._lowercase = lowercase
        self._whitespace = whitespace
        self._punctuation = punctuation and compat != "original"

    def process(self, value: str) -> str:
        """Return the normalized text."""
        if self._punctuation and not value.isascii():
            value = value.translate(_PLAIN)
        if self._lowercase:
            value = value.lower()
        return added_text(" ", value).join(value.split()) if self._whitespace else value
