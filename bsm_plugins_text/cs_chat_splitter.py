"""Text step ``cs_chat_splitter``: from a customer-service chat to messages with a role."""

from __future__ import annotations

import re
from typing import Literal

from bsm_core import Kind, TextStep, split_at
from bsm_plugins_text.original import Compat

_MARKER = re.compile(r"\[(bot|customer|agent)\]:")


class CSChatSplitterProcessor(TextStep):
    """Step that returns the text after each ``[bot]:``, ``[customer]:`` or ``[agent]:`` as a message with that role.

    White space around a message is removed. Blank messages, and text before the first marker, are dropped.

    Args:
        unmarked: What to do with a text without markers: ``"keep"`` returns the text as one message with an empty role,
            ``"drop"`` returns no message.
        compat: ``"original"``: ``unmarked`` is ``"drop"``.
    """

    gives = Kind.ROLE_MESSAGES
    uses = ("compat",)

    def __init__(self, unmarked: Literal["keep", "drop"] = "keep", compat: Compat = None) -> None:
        self._unmarked = "drop" if compat == "original" else unmarked

    def process(self, value: str) -> list[dict[str, str]]:
        """Return the messages of one chat, each as ``{"role": ..., "content": ...}``."""
        head, *rest = split_at(_MARKER, value)
        pairs = list(zip(rest[::2], rest[1::2], strict=True))
        if not pairs and self._unmarked == "keep":
            pairs = [("", head)]
        return [{"role": role, "content": content.strip()} for role, content in pairs if content.strip()]
