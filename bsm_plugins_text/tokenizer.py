"""Text step ``tokenizer``: from chunks to token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bsm_core import Kind, TextStep
from bsm_plugins_text.encoding import encode, room_for_tokens, shortened, with_special_tokens


class BertTokenizeProcessor(TextStep):
    """Step that returns the token ids of each chunk, with special tokens and without padding, cut to ``max_sen_len``.

    Args:
        tokenizer: A Hugging Face fast tokenizer. Truncation and padding in its files are ignored.
        max_sen_len: Maximum number of token ids of a chunk, with special tokens.

    Raises:
        ValueError: ``max_sen_len`` is not larger than the number of special tokens.
    """

    takes = Kind.CHUNKS
    gives = Kind.TOKENS
    uses = ("tokenizer", "max_sen_len")

    def __init__(self, tokenizer: Any, max_sen_len: int) -> None:
        room_for_tokens(tokenizer, max_sen_len)
        self._tokenizer = tokenizer
        self._max_sen_len = max_sen_len

    def process(self, value: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each chunk of one row."""
        return self.process_batch([value])[0]

    def process_batch(self, values: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Return the token ids of each chunk of each row.

        The tokenizer is called once, for the chunks that are not :class:`~bsm_plugins_text.encoding.Encoded`.
        """
        texts = [chunk for row in values for chunk in row]
        if self._tokenizer.truncation_side == "right":
            texts = shortened(self._tokenizer, texts, self._max_sen_len)
        chunks = encode(self._tokenizer, texts)
        ids = iter(with_special_tokens(self._tokenizer, chunks, self._max_sen_len))
        return [[next(ids) for _ in row] for row in values]
