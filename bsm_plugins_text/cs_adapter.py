"""Text step ``cs_adapter``: from messages with a role to plain messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bsm_core import Kind, TextStep


class CSAdapterProcessor(TextStep):
    """Step that writes each message as ``"[role]: content"``, or as its content if the role is empty."""

    takes = Kind.ROLE_MESSAGES
    gives = Kind.MESSAGES

    def process(self, value: Sequence[Mapping[str, str]]) -> list[str]:
        """Return the messages of one chat."""
        return ["[" + m["role"] + "]: " + m["content"] if m["role"] else m["content"] for m in value]
