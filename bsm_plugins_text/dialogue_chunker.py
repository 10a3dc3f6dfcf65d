"""``dialogue_chunker``: turns into chunks that fit the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bsm_core import Kind, TextStep
from bsm_plugins_text.encoding import EncodedText, encode, ends_of_tokens

NO_TEXT = "."
"""The one chunk of a row without text."""


class DialogueChunkerProcessor(TextStep):
    """Packs whole turns, in order and joined by one space, each into the chunk before it where it still fits.

    A chunk holds at most ``max_sen_len`` tokens, less the special tokens. A turn longer than that is cut to it,
    between two tokens. Turns that are blank or hold no token go; no text at all gives the one chunk ``"."``.

    Args:
        tokenizer: A Hugging Face fast tokenizer, of any kind.
        max_sen_len: Most tokens of a chunk, special tokens included.
        chunk_trancate: Stop after ``max_total_chunks`` chunks.
        max_total_chunks: Most chunks of a row where ``chunk_trancate`` is true.
        chunk_truncate: Another spelling of ``chunk_trancate``, which it beats.

    Raises:
        ValueError: ``max_sen_len`` leaves no room beside the special tokens, ``max_total_chunks`` is less than 1, or
            the tokenizer is not a fast one.
    """

    takes = Kind.MESSAGES
    gives = Kind.CHUNKS
    uses = ("tokenizer", "max_sen_len", "chunk_trancate", "max_total_chunks")

    def __init__(
        self,
        tokenizer: Any,
        max_sen_len: int,
        chunk_trancate: bool = False,
        max_total_chunks: int = 5,
        chunk_truncate: bool | None = None,
    ) -> None:
        special = tokenizer.num_special_tokens_to_add()
        if max_sen_len <= special:
            raise ValueError(f"max_sen_len: {max_sen_len} leaves no room beside {special} special tokens")
        if max_total_chunks < 1:
            raise ValueError(f"max_total_chunks: must be at least 1, not {max_total_chunks}")
        if not tokenizer.is_fast:
            raise ValueError(f"tokenizer: must be a fast one, not {type(tokenizer).__name__}")
        self._tokenizer = tokenizer
        self._room = max_sen_len - special
        self._sizes_add_up = _drops_white_space(tokenizer.backend_tokenizer.pre_tokenizer)
        truncate = chunk_trancate if chunk_truncate is None else chunk_truncate
        self._most = max_total_chunks if truncate else None

    def process(self, value: Sequence[str]) -> list[str]:
        """The chunks of one row."""
        return self.process_batch([value])[0]

    def process_batch(self, values: Sequence[Sequence[str]]) -> list[list[str]]:
        """The same for a column, in one or two calls of the tokenizer: one for all turns, one for all chunks.

        Chunks whose tokens are known remember them (:class:`EncodedText`).
        """
        rows = self._fit(values)
        packed: list[list[str]] = [self._pack(row)[: self._most] for row in rows]
        if not self._sizes_add_up:
            chunks = iter(encode(self._tokenizer, [chunk for chunks in packed for chunk in chunks]))
            for i, row in enumerate(packed):
                joined = [next(chunks) for _ in row]
                fit = all(chunk.size <= self._room for chunk in joined)
                packed[i] = [*joined] if fit else self._pack_joined(rows[i])[: self._most]
        return [chunks or [NO_TEXT] for chunks in packed]

    def _fit(self, values: Sequence[Sequence[str]]) -> list[list[EncodedText]]:
        """Each row's turns, cut to the room; those that hold nothing are left out."""
        rows = [[turn for turn in row if turn.strip()] for row in values]
        turns = iter(self._cut([turn for row in rows for turn in row]))
        return [[turn for turn in [next(turns) for _ in row] if turn.size] for row in rows]

    def _cut(self, texts: Sequence[str]) -> list[EncodedText]:
        """The turns; of each long one, the longest start that fits and ends between two tokens."""
        turns = encode(self._tokenizer, texts)
        room = self._room
        while long := [i for i, turn in enumerate(turns) if turn.size > self._room]:
            whole = [turns[i] for i in long]
            ends = ends_of_tokens(self._tokenizer, whole, room) if room else [0] * len(long)
            starts = [turn[:end] for turn, end in zip(whole, ends, strict=True)]
            for i, start in zip(long, encode(self._tokenizer, starts), strict=True):
                turns[i] = start
            room -= 1  # a start can still be too long where one character is several tokens
        return turns

    def _pack(self, turns: Sequence[EncodedText]) -> list[str]:
        """Pack by the sizes of the turns alone."""
        chunks: list[list[EncodedText]] = []
        left = 0
        for turn in turns:
            if not chunks or turn.size > left:
                chunks.append([])
                left = self._room
            chunks[-1].append(turn)
            left -= turn.size
        return [chunk[0] if len(chunk) == 1 else " ".join(chunk) for chunk in chunks]

    def _pack_joined(self, turns: Sequence[EncodedText]) -> list[str]:
        """Pack by the size of each chunk so far: slow, for tokenizers that make more tokens of joined turns."""
        chunks: list[str] = []
        for turn in turns:
            if chunks:
                [joined] = encode(self._tokenizer, [f"{chunks[-1]} {turn}"])
                if joined.size <= self._room:
                    chunks[-1] = joined
                    continue
            chunks.append(turn)
        return chunks


def _drops_white_space(pre_tokenizer: Any) -> bool:
    """Whether white space only parts words, as BERT has it: joined turns hold no more tokens than they do alone."""
    return pre_tokenizer is not None and [p for p, _ in pre_tokenizer.pre_tokenize_str("a  b")] == ["a", "b"]
