"""``cs_adapter``: messages with a role into plain messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bsm_core import Kind, TextStep


class CSAdapterProcessor(TextStep):
    """Writes each message as ``"[role]: content"``; one without a role as its content alone."""

    takes = Kind.ROLE_MESSAGES
    gives = Kind.MESSAGES

    def process(self, value: Sequence[Mapping[str, str]]) -> list[str]:
        """The messages of one chat."""
        return [f"[{m['role']}]: {m['content']}" if m["role"] else m["content"] for m in value]
