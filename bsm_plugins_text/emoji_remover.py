"""``emoji_remover``: text without emoji."""

from __future__ import annotations

import re

from emoji import EMOJI_DATA

from bsm_core import TextStep

_JOINER = "\u200d"
_SINGLE = sorted(char for char in EMOJI_DATA if len(char) == 1)
# Below U+2300 stand the signs of plain writing (©, ™, ‼, ℹ, arrows): emoji only where a selector or a sequence says so.
_WITH_SELECTOR = "".join(char for char in _SINGLE if char < "\u2300")
_WHEN_JOINED = "".join(sorted({c for s in EMOJI_DATA if _JOINER in s for c in s if c < "\u2300"} - {_JOINER}))
# A set that reaches beyond U+FFFF is slow in `re`; looking ahead keeps it from being tried on other text.
_BASIC = "".join(char for char in _SINGLE if "\u2300" <= char <= "\uffff")
_BEYOND = "".join(char for char in _SINGLE if char > "\uffff") + "\U0001f1e6-\U0001f1ff"  # and the letters of flags
_ALWAYS = f"[{_BASIC}]|(?=[\U00010000-\U0010ffff])[{_BEYOND}]"
# What follows an emoji and belongs to it: variation selectors, the keycap, the tags of regional flags.
_TAIL = "[\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f]*"
_ELEMENT = f"(?:{_ALWAYS}|[{_WITH_SELECTOR}]\ufe0f|[0-9#*]\ufe0f?\u20e3){_TAIL}"
_EMOJI = re.compile(f"{_ELEMENT}(?:{_JOINER}(?:{_ELEMENT}|[{_WHEN_JOINED}]))*")


class EmojiRemoverProcessor(TextStep):
    """Removes every emoji of the Unicode set and nothing else; no space is put in its place.

    With an emoji go its skin tones, joined sequences, flag letters and tags, keycaps and variation selectors. From
    U+2300 up a sign goes even as plain text (``❤``, ``✂``); below, only with the emoji selector (U+FE0F).
    See Unicode Technical Standard #51 for the sequences.
    """

    def process(self, value: str) -> str:
        """One text without its emoji."""
        return value if value.isascii() else _EMOJI.sub("", value)
