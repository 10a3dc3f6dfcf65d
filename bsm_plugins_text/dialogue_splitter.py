"""Text step ``dialogue_splitter``: from a dialogue to its turns."""

from __future__ import annotations

from typing import Literal

from bsm_core import Kind, TextStep
from bsm_plugins_text.original import Compat, turns_of

BEGIN, END = "[bom]", "[eom]"


class DialogueSplitterProcessor(TextStep):
    """Step that returns the text between each ``[bom]`` and the next ``[eom]`` as a turn.

    White space around a turn is removed, and blank turns are dropped. A turn without ``[eom]`` ends at the next
    ``[bom]`` or at the end of the text. In a text with markers, text outside of them is dropped. Markers are
    case-sensitive: ``[BOM]`` is ordinary text.

    Args:
        unmarked: What to do with a text without markers: ``"keep"`` returns the text as one turn, ``"drop"`` returns no
            turn.
        compat: ``"original"``: a turn stands between ``[bom]`` and the next ``[eom]``, also if another ``[bom]`` is
            between them. A turn without ``[eom]`` is dropped, and so is a text without markers.
    """

    gives = Kind.MESSAGES
    uses = ("compat",)

    def __init__(self, unmarked: Literal["keep", "drop"] = "keep", compat: Compat = None) -> None:
        self._unmarked = unmarked
        self._compat = compat

    def process(self, value: str) -> list[str]:
        """Return the turns of one text."""
        if self._compat == "original":
            return turns_of(value)
        if BEGIN in value or END in value:
            turns = [text.partition(END)[0] for text in value.split(BEGIN)[1:]]
        else:
            turns = [value] if self._unmarked == "keep" else []
        return [turn.strip() for turn in turns if turn.strip()]
