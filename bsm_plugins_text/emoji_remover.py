"""Text step ``emoji_remover``: removes emoji from text."""

from __future__ import annotations

import re

from emoji import EMOJI_DATA

from bsm_core import TextStep, substitute
from bsm_plugins_text.original import Compat, without_symbols

_JOINER = "\u200d"
_SINGLE = sorted(char for char in EMOJI_DATA if len(char) == 1)
# Characters below U+2300 (©, ™, ‼, ℹ, arrows) belong to ordinary text. They are emoji only with a selector or in a
# sequence.
_WITH_SELECTOR = "".join(char for char in _SINGLE if char < "\u2300")
_WHEN_JOINED = "".join(sorted({c for s in EMOJI_DATA if _JOINER in s for c in s if c < "\u2300"} - {_JOINER}))
# A character set beyond U+FFFF is slow in `re`. With the lookahead, it is tried only on such characters.
_BASIC = "".join(char for char in _SINGLE if "\u2300" <= char <= "\uffff")
# The last range has the letters of flags, U+1F1E6 to U+1F1FF.
_BEYOND = "".join(char for char in _SINGLE if char > "\uffff") + "\U0001f1e6-\U0001f1ff"
_ALWAYS = f"[{_BASIC}]|(?=[\U00010000-\U0010ffff])[{_BEYOND}]"
# Characters after an emoji that belong to it: variation selectors, the keycap, the tags of regional flags.
_TAIL = "[\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f]*"
_ELEMENT = f"(?:{_ALWAYS}|[{_WITH_SELECTOR}]\ufe0f|[0-9#*]\ufe0f?\u20e3){_TAIL}"
_EMOJI = re.compile(f"{_ELEMENT}(?:{_JOINER}(?:{_ELEMENT}|[{_WHEN_JOINED}]))*")


class EmojiRemoverProcessor(TextStep):
    """Step that removes all emoji, and nothing else. No space takes their place.

    Skin tones, joined sequences, letters and tags of flags, keycaps and variation selectors are removed with their
    emoji. Emoji characters from U+2300 on are removed even without a selector (``❤``, ``✂``), characters below U+2300
    only with the emoji selector U+FE0F. The sequences are those of Unicode Technical Standard #51.

    Args:
        compat: ``"original"``: only emoji of some ranges are removed, which lack those from Unicode 7 on, and all other
            characters from U+24C2 to U+1F251, to which CJK, kana, hangul and full-width letters belong.
    """

    uses = ("compat",)

    def __init__(self, compat: Compat = None) -> None:
        self._compat = compat

    def process(self, value: str) -> str:
        """Return the text without emoji."""
        if self._compat == "original":
            return without_symbols(value)
        return value if value.isascii() else substitute(_EMOJI, "", value)
