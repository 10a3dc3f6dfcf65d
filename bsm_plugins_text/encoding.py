"""Calls of a Hugging Face fast tokenizer, shared by the steps that use one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CHARS, _SPARE = 16, 64
"""Characters for each token after which a text is cut; tokens before that cut that are not used."""


class EncodedText(str):
    """Text with its tokens, so that a later step need not tokenize it again.

    An ``EncodedText`` is equal to the plain text. Its copies, pickles and slices are plain ``str``.

    Attributes:
        tokenizer: The Hugging Face fast tokenizer that tokenized the text.
        encoding: The ``tokenizers.Encoding`` of the whole text, without special tokens and without offsets.
    """

    __slots__ = ("encoding", "tokenizer")
    tokenizer: Any
    encoding: Any

    def __new__(cls, text: str, tokenizer: Any, encoding: Any) -> EncodedText:
        """Return the text with its tokens."""
        encoded = super().__new__(cls, text)
        encoded.tokenizer, encoded.encoding = tokenizer, encoding
        return encoded

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.encoding)


def room_for_tokens(tokenizer: Any, max_sen_len: int) -> int:
    """Return the number of tokens that fit into a chunk beside the special tokens.

    Raises:
        ValueError: No token fits.
    """
    special: int = _guarded(tokenizer.num_special_tokens_to_add)
    if max_sen_len <= special:
        raise ValueError(f"max_sen_len: {max_sen_len} leaves no room beside {special} special tokens")
    return max_sen_len - special


def encode(tokenizer: Any, texts: Sequence[str]) -> list[EncodedText]:
    """Return texts with their tokens. The tokenizer is called once, for the texts without tokens.

    Raises:
        ValueError: A text has half of a surrogate pair, and is therefore not Unicode text; or the tokenizer cannot
            process it, as happens when a regular expression of it takes too many steps.
    """
    known = [isinstance(text, EncodedText) and text.tokenizer is tokenizer for text in texts]
    unknown = [text for text, is_known in zip(texts, known, strict=True) if not is_known]
    found = iter(_call(_plain(tokenizer).encode_batch_fast, unknown))
    return [
        text if is_known else EncodedText(text, tokenizer, next(found))  # type: ignore[misc]
        for text, is_known in zip(texts, known, strict=True)
    ]


def shortened(tokenizer: Any, texts: Sequence[str], count: int) -> list[str]:
    """Return texts, of which those that are much longer than ``count`` tokens are cut; these tokens do not change.

    Tokenizers need up to 200 bytes of memory for each byte of text. A text is cut at a space if there is one, and some
    tokens later than necessary, because a token can depend on the characters next to it. Texts are not cut if the
    tokenizer does not split them at white space: then each token can depend on the whole text.
    """
    size = _CHARS * (count + _SPARE)
    long = [i for i, text in enumerate(texts) if len(text) > 2 * size and not isinstance(text, EncodedText)]
    shorter = [*texts]
    if long and _splits_at_white_space(tokenizer):
        for i in long:
            shorter[i] = _shortened(tokenizer, texts[i], count, size)
    return shorter


def _shortened(tokenizer: Any, text: str, count: int, size: int) -> str:
    while 2 * size < len(text):
        space = text.rfind(" ", size // 2, size)
        start = text[: size if space < 0 else space]
        if encode(tokenizer, [start])[0].size >= count + _SPARE:
            return start
        size *= 2
    return text


def _splits_at_white_space(tokenizer: Any) -> bool:
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    return pre_tokenizer is not None and len(pre_tokenizer.pre_tokenize_str("a b")) > 1


def ends_of_tokens(tokenizer: Any, texts: Sequence[str], count: int) -> list[int]:
    """Return the end of the ``count``-th token of each text, in characters.

    Special tokens do not count. Each text must have at least ``count`` tokens.
    """
    encodings = _call(_plain(tokenizer).encode_batch, texts)
    return [encoding.offsets[count - 1][1] for encoding in encodings]


def with_special_tokens(tokenizer: Any, texts: Sequence[EncodedText], most: int) -> list[list[int]]:
    """Return the token ids of texts, with special tokens, cut to at most ``most`` ids.

    Raises:
        ValueError: The tokenizer cannot process a text.
    """
    backend = _plain(tokenizer)
    backend.enable_truncation(most, direction=tokenizer.truncation_side)
    return [_guarded(backend.post_process, text.encoding).ids[:most] for text in texts]


def _plain(tokenizer: Any) -> Any:
    """Return the ``tokenizers.Tokenizer``, without the truncation and padding that its file or another caller set."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _call(encode_batch: Any, texts: Sequence[str]) -> Sequence[Any]:
    try:
        encodings: Sequence[Any] = _guarded(encode_batch, list(texts), add_special_tokens=False)
    except TypeError as error:  # the tokenizer's error for a string that cannot be encoded as UTF-8
        raise ValueError("half of a surrogate pair is not Unicode text") from error
    return encodings


def _guarded(function: Any, *arguments: Any, **named: Any) -> Any:
    """Call a function of the tokenizers library. An error of it that is no ``Exception`` becomes a ``ValueError``."""
    try:
        return function(*arguments, **named)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizer failed: {error}") from error
