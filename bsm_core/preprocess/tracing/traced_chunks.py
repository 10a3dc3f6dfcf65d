"""Tokens that know where they stood in the original cell, and whether a step keeps places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bsm_core.preprocess.tracing.traced_text import Place, TracedText


class TracedTokens(list[int]):
    """Token ids of a chunk with the place of each token: what a step that gives tokens makes of a :class:`TracedText`.

    A ``TracedTokens`` is equal to the plain list of ids.

    Args:
        ids: The token ids, with special tokens.
        places: Place of each token; None for a token that does not stand in the cell.
        words: Number of the word of each token in the chunk, from 0; None for a token that belongs to no word.

    Attributes:
        places: Place of each token, or None.
        words: Number of the word of each token, or None.

    Example:
        Return one token for each word of a chunk::

            chunk = TracedText("so good")
            words = chunk.split()
            TracedTokens(map(len, words), [word.place for word in words], range(len(words)))
    """

    def __init__(self, ids: Iterable[int], places: Iterable[Place | None], words: Iterable[int | None]) -> None:
        super().__init__(ids)
        self.places, self.words = [*places], [*words]
        if not len(self) == len(self.places) == len(self.words):
            raise ValueError(f"{len(self)} ids, but {len(self.places)} places and {len(self.words)} words")


@dataclass(frozen=True)
class TracedChunk:
    """A chunk of a cell: its tokens, and where each of them stood in the cell.

    Attributes:
        ids: The token ids, as the pipeline returns them.
        tokens: The tokens as text, such as ``"##ing"``.
        places: Start and end of each token in the cell, in characters, the end exclusive. None for a special token, for
            a token that a step added, and where a step lost the places.
        words: Number of the word of each token, from 0 on in a cell: the tokens of one number are pieces of one word.
            None for a special token, and where a step lost the places.
        lost_by: Name of the first step that lost places of the cell; None if no step did.

    Example:
        Show a token beside the text that it stands for::

            chunk = TracedChunk([7], ["great"], [(3, 8)], [0], None)
            for token, place in zip(chunk.tokens, chunk.places):
                print(token, "<b>Great</b>"[slice(*place)])
    """

    ids: Sequence[int]
    tokens: Sequence[str]
    places: Sequence[Place | None]
    words: Sequence[int | None]
    lost_by: str | None


def traced_chunks(chunks: Sequence[Sequence[int]], tokenizer: Any, lost_by: str | None) -> list[TracedChunk]:
    """Return the chunks of a cell with what is known of their places.

    Args:
        chunks: Token ids of each chunk, plain or :class:`TracedTokens`.
        tokenizer: Tokenizer that knows the text of a token. None: this text is the id.
        lost_by: Name of the first step that lost places.
    """
    found: list[TracedChunk] = []
    first = 0
    for chunk in chunks:
        tokens = [str(i) for i in chunk] if tokenizer is None else tokenizer.convert_ids_to_tokens([*chunk])
        places: Sequence[Place | None] = [None] * len(chunk)
        words: Sequence[int | None] = [None] * len(chunk)
        if isinstance(chunk, TracedTokens):
            places, words = chunk.places, [None if word is None else first + word for word in chunk.words]
            first = max((word + 1 for word in words if word is not None), default=first)
        found.append(TracedChunk([*chunk], tokens, places, words, lost_by))
    return found


def traced_value(value: Any) -> Any:
    """Return a value of a step with its texts as :class:`TracedText`, each of them as a cell of its own."""
    if isinstance(value, str):
        return TracedText(value)
    if isinstance(value, Mapping):
        return {key: traced_value(item) for key, item in value.items()}
    return [traced_value(item) for item in value] if isinstance(value, list) else value


def has_places(value: Any) -> bool:
    """Return whether a character of a value, or a token, stands in the cell."""
    return any(
        part.place is not None if isinstance(part, TracedText) else any(part.places)
        for part in _parts(value)
        if isinstance(part, TracedText | TracedTokens)
    )


def is_traced(value: Any) -> bool:
    """Return whether no part of a value is plain text, or plain tokens."""
    return all(isinstance(part, TracedText | TracedTokens) or part == "" for part in _parts(value))


def _parts(value: Any) -> Iterator[Any]:
    """Return the texts of a value, contents of messages included, or the chunks of token ids."""
    if isinstance(value, Mapping):
        yield value.get("content", "")
    elif isinstance(value, str | TracedTokens) or not isinstance(value, list):
        yield value
    else:
        for part in value:
            yield from _parts(part)
