"""``tokenizer``: chunks into token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bsm_core import Kind, TextStep
from bsm_plugins_text.encoding import encode, with_special_tokens


class BertTokenizeProcessor(TextStep):
    """Tokenizes each chunk, with special tokens, cut to ``max_sen_len`` ids. Nothing is padded.

    Args:
        tokenizer: A Hugging Face fast tokenizer, of any kind. Truncation and padding that its files ask for do not
            apply.
        max_sen_len: Most token ids of a chunk, special tokens included.

    Raises:
        ValueError: ``max_sen_len`` leaves no room beside the special tokens.
    """

    takes = Kind.CHUNKS
    gives = Kind.TOKENS
    uses = ("tokenizer", "max_sen_len")

    def __init__(self, tokenizer: Any, max_sen_len: int) -> None:
        special = tokenizer.num_special_tokens_to_add()
        if max_sen_len <= special:
            raise ValueError(f"max_sen_len: {max_sen_len} leaves no room beside {special} special tokens")
        self._tokenizer = tokenizer
        self._max_sen_len = max_sen_len

    def process(self, value: Sequence[str]) -> list[list[int]]:
        """The token ids of each chunk of one row."""
        return self.process_batch([value])[0]

    def process_batch(self, values: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """The same for a column, in one call of the tokenizer; in none for chunks that remember their tokens."""
        chunks = encode(self._tokenizer, [chunk for row in values for chunk in row])
        ids = iter(with_special_tokens(self._tokenizer, chunks, self._max_sen_len))
        return [[next(ids) for _ in row] for row in values]
