"""``text_normalizer``: lower case, plain white space, plain punctuation."""

from __future__ import annotations

from bsm_core import TextStep

_PLAIN: dict[int, int | str] = {
    **dict.fromkeys(map(ord, "‘’‚‛‹›"), "'"),
    **dict.fromkeys(map(ord, "“”„‟«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣"), "-"),
    ord("…"): "...",
    **{full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
}


class TextNormalizationProcessor(TextStep):
    """Brings spellings of the same text together; each part can be switched off.

    Args:
        lowercase: Lower case.
        whitespace: Every run of white space becomes one space; none at either end.
        punctuation: Typographic quotes, dashes, ellipsis and full-width forms become their ASCII form.
    """

    def __init__(self, lowercase: bool = True, whitespace: bool = True, punctuation: bool = True) -> None:
        self._lowercase = lowercase
        self._whitespace = whitespace
        self._punctuation = punctuation

    def process(self, value: str) -> str:
        """One text, normalized."""
        if self._punctuation and not value.isascii():
            value = value.translate(_PLAIN)
        if self._lowercase:
            value = value.lower()
        return " ".join(value.split()) if self._whitespace else value
