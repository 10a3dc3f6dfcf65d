"""Text steps with ``compat="original"``, which are those of the project whose artifacts bsm scores.

An artifact that the training scripts of that project wrote was trained on texts in this form. ``docs/migrating.md``
lists each difference from the steps of bsm. The facts are those of ``projects/bsm_pytorch/dockers`` of the public
repository TianpeiLuke/cursus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from bsm_core import added_text, find_all, substitute
from bsm_plugins_text.encoding import Encoded, encode, joined, shortened

Compat: TypeAlias = Literal["original"] | None
"""Value of the config key ``compat``, which each step with a parameter of this name gets."""

NO_TEXT = "."
"""Chunk of a row without text."""
_TURN = re.compile(r"\[bom\](.*?)\[eom\]", re.DOTALL)
# The last range has far more than emoji: enclosed letters, box drawing, CJK, kana, hangul, full-width forms.
_REMOVED = re.compile(
    "[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\u2702-\u27b0\u24c2-\U0001f251]+"
)


def turns_of(text: str) -> list[str]:
    """Return what stands between a ``[bom]`` and the next ``[eom]``: nothing of a text without such a pair."""
    # From each [bom] after the last [eom], the pattern would read to the end of the text, which can take minutes.
    return [turn.strip() for turn in find_all(_TURN, text[: text.rfind("[eom]") + 5]) if turn.strip()]


def without_symbols(text: str) -> str:
    """Return the text without emoji up to Unicode 6, and without all characters from U+24C2 to U+1F251."""
    return text if text.isascii() else substitute(_REMOVED, "", text)


def chunks_of(tokenizer: Any, rows: Sequence[Sequence[str]], room: int, most: int | None) -> list[list[str]]:
    """Return the chunks of each row.

    Args:
        tokenizer: A Hugging Face fast tokenizer.
        rows: The turns of each row. A turn without tokens stays.
        room: Number of tokens of a chunk without special tokens. With these a chunk can be too long; the step
            ``tokenizer`` cuts it. A turn with more tokens becomes what the tokenizer decodes from the first ``room``.
        most: Largest number of chunks of a row; None: any number.
    """
    turns = [turn for row in rows for turn in row]
    cut = iter([_cut(tokenizer, turn, room) for turn in encode(tokenizer, shortened(tokenizer, turns, room))])
    return [_packed([next(cut) for _ in row], room, most) for row in rows]


def _cut(tokenizer: Any, turn: Encoded, room: int) -> tuple[str, int]:
    """Return the text of a turn that fits into a chunk, and its number of tokens."""
    if turn.size <= room:
        return turn, turn.size
    return tokenizer.decode(turn.encoding.ids[:room], skip_special_tokens=True), room


def _packed(turns: Sequence[tuple[str, int]], room: int, most: int | None) -> list[str]:
    chunks: list[list[str]] = []
    left = 0
    for text, size in turns:
        if not chunks or size > left:
            chunks.append([])
            left = room
        chunks[-1].append(text)
        left -= size
    texts = [_joined(chunk) for chunk in chunks[:most]]
    return [text for text in texts if text] or [added_text(NO_TEXT, *(text for text, _ in turns))]


def _joined(turns: Sequence[str]) -> str:
    text = turns[0] if len(turns) == 1 else joined(turns)
    return text if text == text.strip() else text.strip()  # unchanged text keeps its tokens
