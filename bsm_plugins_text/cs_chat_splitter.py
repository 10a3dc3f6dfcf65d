"""``cs_chat_splitter``: a customer-service chat into messages with a role."""

from __future__ import annotations

import re
from typing import Literal

from bsm_core import Kind, TextStep

_MARKER = re.compile(r"\[(bot|customer|agent)\]:")


class CSChatSplitterProcessor(TextStep):
    """Takes what follows each ``[bot]:``, ``[customer]:`` or ``[agent]:``, trimmed; blank messages go.

    As with ``dialogue_splitter``, in a marked text what stands before the first marker goes.

    Args:
        unmarked: What becomes of a text with no marker at all: ``"keep"`` makes it one message whose role is the
            empty string, ``"drop"`` gives none.
    """

    gives = Kind.ROLE_MESSAGES

    def __init__(self, unmarked: Literal["keep", "drop"] = "keep") -> None:
        self._unmarked = unmarked

    def process(self, value: str) -> list[dict[str, str]]:
        """The messages of one chat, each ``{"role": ..., "content": ...}``."""
        head, *rest = _MARKER.split(value)
        pairs = list(zip(rest[::2], rest[1::2], strict=True))
        if not pairs and self._unmarked == "keep":
            pairs = [("", head)]
        return [{"role": role, "content": content.strip()} for role, content in pairs if content.strip()]
