"""Text step ``dialogue_chunker``: from turns to chunks that fit the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bsm_core import Kind, TextStep, added_text
from bsm_plugins_text.encoding import Encoded, encode, ends_of_tokens, joined, room_for_tokens, shortened
from bsm_plugins_text.original import NO_TEXT, Compat, chunks_of


class DialogueChunkerProcessor(TextStep):
    """Step that packs the turns of a row into chunks, in order.

    A turn is appended to the last chunk, after a space, if it fits there; else it begins a new chunk. With special
    tokens, a chunk has at most ``max_sen_len`` tokens. A turn that is longer by itself is cut after the last token that
    fits. Turns that are blank or have no tokens are dropped. A row without text has the one chunk ``"."``.

    Args:
        tokenizer: A Hugging Face fast tokenizer.
        max_sen_len: Maximum number of tokens of a chunk, with special tokens.
        chunk_trancate: Whether a row has at most ``max_total_chunks`` chunks; further chunks are dropped.
        max_total_chunks: Maximum number of chunks of a row if ``chunk_trancate`` is true.
        chunk_truncate: The correct spelling of ``chunk_trancate``; overrides it if it is not None.
        compat: ``"original"``: special tokens are not counted, so the step ``tokenizer`` cuts the ends of full chunks.
            A turn that is too long becomes what the tokenizer decodes from its first tokens.

    Raises:
        ValueError: ``max_sen_len`` is not larger than the number of special tokens, ``max_total_chunks`` is less than
            1, or the tokenizer is not a fast tokenizer.
    """

    takes = Kind.MESSAGES
    gives = Kind.CHUNKS
    uses = ("tokenizer", "max_sen_len", "chunk_trancate", "max_total_chunks", "compat")

    def __init__(
        self,
        tokenizer: Any,
        max_sen_len: int,
        chunk_trancate: bool = False,
        max_total_chunks: int = 5,
        chunk_truncate: bool | None = None,
        compat: Compat = None,
    ) -> None:
        self._room = room_for_tokens(tokenizer, max_sen_len)
        if max_total_chunks < 1:
            raise ValueError(f"max_total_chunks: must be at least 1, not {max_total_chunks}")
        if not tokenizer.is_fast:
            raise ValueError(f"tokenizer: must be a fast tokenizer, not {type(tokenizer).__name__}")
        self._tokenizer = tokenizer
        self._sizes_add_up = _drops_white_space(tokenizer.backend_tokenizer.pre_tokenizer)
        truncate = chunk_trancate if chunk_truncate is None else chunk_truncate
        self._most = max_total_chunks if truncate else None
        self._original_room = max_sen_len if compat == "original" else None

    def process(self, value: Sequence[str]) -> list[str]:
        """Return the chunks of one row."""
        return self.process_batch([value])[0]

    def process_batch(self, values: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the chunks of each row. Chunks whose tokens are known are :class:`~bsm_plugins_text.encoding.Encoded`.

        The tokenizer is called once for all turns and, if the lengths of joined turns do not add up, once for all
        chunks. Turns that must be cut need further calls.
        """
        if self._original_room is not None:
            return chunks_of(self._tokenizer, values, self._original_room, self._most)
        rows = self._fit(values)
        packed: list[list[str]] = [self._pack(row)[: self._most] for row in rows]
        if not self._sizes_add_up:
            chunks = iter(encode(self._tokenizer, [chunk for chunks in packed for chunk in chunks]))
            for i, row in enumerate(packed):
                encoded = [next(chunks) for _ in row]
                fit = all(chunk.size <= self._room for chunk in encoded)
                packed[i] = [*encoded] if fit else self._pack_joined(rows[i])[: self._most]
        return [chunks or [added_text(NO_TEXT, *turns)] for chunks, turns in zip(packed, values, strict=True)]

    def _fit(self, values: Sequence[Sequence[str]]) -> list[list[Encoded]]:
        """Return the turns of each row, cut to the room of a chunk, without turns that have no tokens."""
        rows = [[turn for turn in row if turn.strip()] for row in values]
        turns = iter(self._cut([turn for row in rows for turn in row]))
        return [[turn for turn in [next(turns) for _ in row] if turn.size] for row in rows]

    def _cut(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the turns, each cut after the last token that fits into a chunk."""
        turns = encode(self._tokenizer, shortened(self._tokenizer, texts, self._room))
        room = self._room
        while long := [i for i, turn in enumerate(turns) if turn.size > self._room]:
            whole = [turns[i] for i in long]
            ends = ends_of_tokens(self._tokenizer, whole, room) if room else [0] * len(long)
            starts = [turn[:end] for turn, end in zip(whole, ends, strict=True)]
            for i, start in zip(long, encode(self._tokenizer, starts), strict=True):
                turns[i] = start
            room -= 1  # a cut turn is still too long if one of its characters has several tokens
        return turns

    def _pack(self, turns: Sequence[Encoded]) -> list[str]:
        """Pack turns by the sum of their token counts."""
        chunks: list[list[Encoded]] = []
        left = 0
        for turn in turns:
            if not chunks or turn.size > left:
                chunks.append([])
                left = self._room
            chunks[-1].append(turn)
            left -= turn.size
        return [chunk[0] if len(chunk) == 1 else joined(chunk) for chunk in chunks]

    def _pack_joined(self, turns: Sequence[Encoded]) -> list[str]:
        """Pack turns by the token count of the joined text.

        Slow; for tokenizers that return more tokens for joined turns than for the separate turns.
        """
        chunks: list[str] = []
        for turn in turns:
            if chunks:
                [longer] = encode(self._tokenizer, [joined([chunks[-1], turn])])
                if longer.size <= self._room:
                    chunks[-1] = longer
                    continue
            chunks.append(turn)
        return chunks


def _drops_white_space(pre_tokenizer: Any) -> bool:
    """Return whether white space only separates words, as in BERT.

    Then joined turns have no more tokens than the separate turns.
    """
    return pre_tokenizer is not None and [p for p, _ in pre_tokenizer.pre_tokenize_str("a  b")] == ["a", "b"]
