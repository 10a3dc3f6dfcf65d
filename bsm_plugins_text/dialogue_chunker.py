"""``dialogue_chunker``: turns into chunks that fit the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bsm_core import Kind, TextStep
from bsm_plugins_text.encoding import encode

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
        """The same for a column, in one or two calls of the tokenizer: one for all turns, one for all chunks."""
        rows = self._fit(values)
        packed = [self._pack(row)[: self._most] for row in rows]
        if not self._sizes_add_up:
            sizes = map(len, self._encode([chunk for chunks in packed for chunk in chunks]))
            for i, chunks in enumerate(packed):
                if max([next(sizes) for _ in chunks], default=0) > self._room:
                    packed[i] = self._pack_joined(rows[i])[: self._most]
        return [chunks or [NO_TEXT] for chunks in packed]

    def _fit(self, values: Sequence[Sequence[str]]) -> list[list[tuple[str, int]]]:
        """Each row's turns, cut to the room, with their sizes; those that hold nothing are left out."""
        rows = [[turn for turn in row if turn.strip()] for row in values]
        encodings = iter(self._encode([turn for row in rows for turn in row]))
        cut = [[self._cut(turn, next(encodings)) for turn in row] for row in rows]
        return [[(turn, size) for turn, size in row if size] for row in cut]

    def _cut(self, turn: str, encoding: Any) -> tuple[str, int]:
        """The turn and its size; of a long one, the longest start that fits and ends between two tokens."""
        room = self._room
        while len(encoding) > self._room:
            turn = turn[: encoding.offsets[room - 1][1]] if room else ""
            [encoding] = self._encode([turn])
            room -= 1  # a start can still be too long where one character is several tokens
        return turn, len(encoding)

    def _pack(self, turns: Sequence[tuple[str, int]]) -> list[str]:
        """Pack by the sizes of the turns alone."""
        chunks: list[list[str]] = []
        left = 0
        for turn, size in turns:
            if not chunks or size > left:
                chunks.append([])
                left = self._room
            chunks[-1].append(turn)
            left -= size
        return [" ".join(chunk) for chunk in chunks]

    def _pack_joined(self, turns: Sequence[tuple[str, int]]) -> list[str]:
        """Pack by the size of each chunk so far: slow, for tokenizers that make more tokens of joined turns."""
        chunks: list[str] = []
        for turn, _ in turns:
            if chunks and len(self._encode([f"{chunks[-1]} {turn}"])[0]) <= self._room:
                chunks[-1] += f" {turn}"
            else:
                chunks.append(turn)
        return chunks

    def _encode(self, texts: list[str]) -> Sequence[Any]:
        """Encodings without special tokens, whole: ``len`` is the size, ``offsets`` are characters of the text."""
        if not texts:
            return []
        # longer than the model reads is what is being found out here, and nothing to warn of
        encoded = encode(self._tokenizer, texts, add_special_tokens=False, truncation=False, verbose=False)
        encodings: Sequence[Any] = encoded.encodings
        return encodings


def _drops_white_space(pre_tokenizer: Any) -> bool:
    """Whether white space only parts words, as BERT has it: joined turns hold no more tokens than they do alone."""
    return pre_tokenizer is not None and [p for p, _ in pre_tokenizer.pre_tokenize_str("a  b")] == ["a", "b"]
