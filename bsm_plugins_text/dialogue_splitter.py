"""``dialogue_splitter``: a dialogue into its turns."""

from __future__ import annotations

from typing import Literal

from bsm_core import Kind, TextStep

BEGIN, END = "[bom]", "[eom]"


class DialogueSplitterProcessor(TextStep):
    """Takes the turns that stand between ``[bom]`` and ``[eom]``, trimmed; blank turns go.

    An unclosed ``[bom]`` runs to the next ``[bom]`` or to the end of the text. In a marked text, what stands outside
    the markers goes. Markers are read as they are spelled here: ``[BOM]`` is plain text.

    Args:
        unmarked: What becomes of a text with no marker at all: ``"keep"`` makes it one turn, ``"drop"`` gives none.
    """

    gives = Kind.MESSAGES

    def __init__(self, unmarked: Literal["keep", "drop"] = "keep") -> None:
        self._unmarked = unmarked

    def process(self, value: str) -> list[str]:
        """The turns of one text."""
        if BEGIN in value or END in value:
            turns = [part.partition(END)[0] for part in value.split(BEGIN)[1:]]
        else:
            turns = [value] if self._unmarked == "keep" else []
        return [turn.strip() for turn in turns if turn.strip()]
