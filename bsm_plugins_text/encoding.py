"""Calling a tokenizer: what the steps that use one share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class EncodedText(str):
    """A text that remembers its tokens, so that a later step need not look for them again.

    It equals the plain text; a copy, a pickle or a slice of it is the plain text.

    Attributes:
        tokenizer: The Hugging Face fast tokenizer that found the tokens.
        encoding: The ``tokenizers.Encoding`` of the whole text, without special tokens and without offsets.
    """

    __slots__ = ("encoding", "tokenizer")
    tokenizer: Any
    encoding: Any

    def __new__(cls, text: str, tokenizer: Any, encoding: Any) -> EncodedText:
        """The text, with what it remembers."""
        encoded = super().__new__(cls, text)
        encoded.tokenizer, encoded.encoding = tokenizer, encoding
        return encoded

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.encoding)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[EncodedText]:
    """The texts with their tokens, in one call of the tokenizer for all that do not remember them.

    Raises:
        ValueError: A text is no Unicode text.
    """
    known = [isinstance(text, EncodedText) and text.tokenizer is tokenizer for text in texts]
    unknown = [text for text, is_known in zip(texts, known, strict=True) if not is_known]
    found = iter(_call(_plain(tokenizer).encode_batch_fast, unknown))
    return [
        text if is_known else EncodedText(text, tokenizer, next(found))  # type: ignore[misc]
        for text, is_known in zip(texts, known, strict=True)
    ]


def ends_of_tokens(tokenizer: Any, texts: Sequence[str], count: int) -> list[int]:
    """Where the ``count``-th token of each text ends, in characters; each has that many, special tokens left out."""
    encodings = _call(_plain(tokenizer).encode_batch, texts)
    return [encoding.offsets[count - 1][1] for encoding in encodings]


def with_special_tokens(tokenizer: Any, texts: Sequence[EncodedText], most: int) -> list[list[int]]:
    """Their token ids with the special tokens, cut to ``most``."""
    backend = _plain(tokenizer)
    backend.enable_truncation(most, direction=tokenizer.truncation_side)
    return [backend.post_process(text.encoding).ids for text in texts]


def _plain(tokenizer: Any) -> Any:
    """Its ``tokenizers.Tokenizer``, without the truncation and padding that its file, or another caller, asked for."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _call(encode_batch: Any, texts: Sequence[str]) -> Sequence[Any]:
    try:
        encodings: Sequence[Any] = encode_batch(list(texts), add_special_tokens=False)
    except TypeError as error:  # so it says that a string cannot be UTF-8
        raise ValueError("half of a surrogate pair is no text") from error
    return encodings
