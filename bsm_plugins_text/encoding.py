"""Calls of a Hugging Face fast tokenizer, shared by the steps that use one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from bsm_core import TracedText, TracedTokens, added_text

_CHARS, _SPARE = 16, 64
"""Characters for each token after which a text is cut; tokens before that cut that are not used."""
_MARKS = "\u0120\u2581"
"""Characters that stand for a space in tokens: of byte-level tokenizers, and of SentencePiece."""


class Encoded(str):
    """Text with its tokens, so that a later step need not tokenize it again.

    An ``Encoded`` is equal to the plain text. Its slices, copies and pickles have no tokens.

    Attributes:
        tokenizer: The Hugging Face fast tokenizer that tokenized the text.
        encoding: The ``tokenizers.Encoding`` of the whole text, without special tokens.
    """

    __slots__ = ()
    tokenizer: Any
    encoding: Any

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.encoding)


class EncodedText(Encoded):
    """Plain text with its tokens; their encoding has no offsets."""

    __slots__ = ("encoding", "tokenizer")

    def __new__(cls, text: str, tokenizer: Any, encoding: Any) -> Self:
        """Return the text with its tokens."""
        encoded = super().__new__(cls, text)
        encoded.tokenizer, encoded.encoding = tokenizer, encoding
        return encoded

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class EncodedTracedText(TracedText, Encoded):
    """Traced text with its tokens and their offsets."""

    __slots__ = ("encoding", "tokenizer")

    def __new__(cls, text: TracedText, tokenizer: Any, encoding: Any) -> Self:
        """Return the text with its tokens."""
        encoded = super().__new__(cls, text, text.places)
        encoded.tokenizer, encoded.encoding = tokenizer, encoding
        return encoded


def room_for_tokens(tokenizer: Any, max_sen_len: int) -> int:
    """Return the number of tokens that fit into a chunk beside the special tokens.

    Raises:
        ValueError: No token fits.
    """
    special: int = _guarded(tokenizer.num_special_tokens_to_add)
    if max_sen_len <= special:
        raise ValueError(f"max_sen_len: {max_sen_len} leaves no room beside {special} special tokens")
    return max_sen_len - special


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Encoded]:
    """Return texts with their tokens. The tokenizer is called once, for the texts without tokens.

    Raises:
        ValueError: A text has half of a surrogate pair, and is therefore not Unicode text; or the tokenizer cannot
            process it, as happens when a regular expression of it takes too many steps.
    """
    known = [isinstance(text, Encoded) and text.tokenizer is tokenizer for text in texts]
    unknown = [text for text, is_known in zip(texts, known, strict=True) if not is_known]
    backend = _plain(tokenizer)
    is_traced = any(isinstance(text, TracedText) for text in unknown)
    found = iter(_call(backend.encode_batch if is_traced else backend.encode_batch_fast, unknown))
    encoded = _encoded if is_traced else EncodedText
    return [
        text if is_known else encoded(text, tokenizer, next(found))  # type: ignore[misc]
        for text, is_known in zip(texts, known, strict=True)
    ]


def _encoded(text: str, tokenizer: Any, encoding: Any) -> Encoded:
    if isinstance(text, TracedText):
        return EncodedTracedText(text, tokenizer, encoding)
    return EncodedText(text, tokenizer, encoding)


def joined(texts: Sequence[str]) -> str:
    """Return the texts with a space between them."""
    return added_text(" ", *texts).join(texts)


def shortened(tokenizer: Any, texts: Sequence[str], count: int) -> list[str]:
    """Return texts, of which those that are much longer than ``count`` tokens are cut; these tokens do not change.

    Tokenizers need up to 200 bytes of memory for each byte of text. A text is cut at a space if there is one, and some
    tokens later than necessary, because a token can depend on the characters next to it. Texts are not cut if the
    tokenizer does not split them at white space: then each token can depend on the whole text.
    """
    size = _CHARS * (count + _SPARE)
    long = [i for i, text in enumerate(texts) if len(text) > 2 * size and not isinstance(text, Encoded)]
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


def with_special_tokens(tokenizer: Any, texts: Sequence[Encoded], most: int) -> list[list[int]]:
    """Return the token ids of texts, with special tokens, cut to at most ``most`` ids.

    Those of traced text are :class:`TracedTokens`.

    Raises:
        ValueError: The tokenizer cannot process a text.
    """
    backend = _plain(tokenizer)
    backend.enable_truncation(most, direction=tokenizer.truncation_side)
    ids: list[list[int]] = []
    for text in texts:
        encoding = _guarded(backend.post_process, text.encoding)
        if isinstance(text, EncodedTracedText):
            ids.append(_traced(tokenizer, text, encoding, most))
        else:
            ids.append(encoding.ids[:most])
    return ids


def _traced(tokenizer: Any, text: EncodedTracedText, encoding: Any, most: int) -> list[int]:
    """Return the ids of a text's encoding with special tokens, with their places.

    The offsets are those of the encoding without special tokens: some tokenizers trim white space from offsets each
    time that they process an encoding.
    """
    special = encoding.special_tokens_mask
    size = special.count(0)
    tokens = text.encoding.ids
    first = len(tokens) - size if tokenizer.truncation_side == "left" else 0
    if first < 0 or [i for i, mark in zip(encoding.ids, special, strict=True) if not mark] != tokens[first:][:size]:
        return list(encoding.ids[:most])  # the template does more than add tokens
    known = iter(_places_and_words(text, first))
    placed = [(None, None) if mark else next(known) for mark in special]
    places, words = zip(*placed, strict=True) if placed else ((), ())
    return TracedTokens(encoding.ids[:most], places[:most], words[:most])


def _places_and_words(text: EncodedTracedText, first: int) -> list[tuple[tuple[int, int] | None, int]]:
    """Return the place of each token from ``first`` on, without the white space around it, and the number of its word.

    White space begins a new word, also if the tokenizer does not split there.
    """
    plain, encoding = str(text), text.encoding
    found: list[tuple[tuple[int, int] | None, int]] = []
    word, last, end = -1, None, 0
    tokens = [*zip(encoding.tokens, encoding.word_ids, encoding.offsets, strict=True)]
    for token, number, (start, stop) in tokens[first:]:
        part = plain[start:stop].strip() or plain[start:stop]
        start = plain.find(part, start)
        word += number != last or any(map(str.isspace, plain[end:start]))
        last, end = number, start + len(part)
        is_mark = not token.strip(_MARKS) and token != part and part.strip()  # of a space that the tokenizer added
        found.append((None if is_mark else text[start:end].place, word))
    return found


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
