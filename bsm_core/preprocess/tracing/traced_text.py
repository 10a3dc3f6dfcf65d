"""Text that knows where each of its characters stood in the original cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Self, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

Place: TypeAlias = tuple[int, int]
"""Start and end in the original cell, in characters; the end is exclusive."""
Places: TypeAlias = npt.NDArray[np.int64]
"""Place of each character of a text, ``[characters, 2]``; -1 for a character that does not stand in the cell."""


class TracedText(str):
    """Text that knows where each of its characters stood in the original cell.

    A ``TracedText`` is equal to the plain text. These operations return a ``TracedText`` again: indexing, slices and
    iteration, ``+`` and ``*``, all methods that strip, split, partition, replace or translate, that change the case, or
    that remove a prefix or suffix, and the method ``join`` of a ``TracedText``. The others, f-strings and the functions
    of other modules return plain text, and so does the method ``join`` of a plain text; see :func:`added_text`,
    :func:`substitute`, :func:`split_at` and :func:`find_all`.

    A character that replaces others has their place.

    Args:
        text: The text.
        places: Place of each character. None: the text is the cell itself.

    Attributes:
        places: Place of each character, int64 ``[characters, 2]``; -1 for a character that a step added.

    Example:
        Find a word of a changed text in the original::

            cell = "<b>Great</b> fit"
            text = TracedText(cell)[3:8].lower()
            start, end = text.place
            print(text, cell[start:end])
    """

    __slots__ = ("places",)
    places: Places

    def __new__(cls, text: str, places: Places | None = None) -> Self:
        """Return the text with its places."""
        traced = super().__new__(cls, text)
        traced.places = np.arange(len(text), dtype=np.int64)[:, None] + np.array([0, 1]) if places is None else places
        if traced.places.shape != (len(text), 2):
            raise ValueError(f"places: the shape must be ({len(text)}, 2), not {traced.places.shape}")
        return traced

    def __reduce__(self) -> tuple[Any, ...]:
        return TracedText, (str(self), self.places)

    @property
    def place(self) -> Place | None:
        """Place of the whole text: from its first to its last character in the cell. None if there is none."""
        start, end = _whole(self.places)
        return None if start < 0 else (start, end)

    def __getitem__(self, key: SupportsIndex | slice) -> TracedText:
        one = key if isinstance(key, slice) else slice((at := range(len(self))[key]), at + 1)
        return TracedText(str.__getitem__(self, key), self.places[one])

    def __iter__(self) -> Iterator[TracedText]:
        return (self[i] for i in range(len(self)))

    def __add__(self, other: str) -> TracedText:
        return TracedText(str.__add__(self, other), np.concatenate([self.places, places_of(other)]))

    def __radd__(self, other: str) -> TracedText:
        return TracedText(str.__add__(other, str(self)), np.concatenate([places_of(other), self.places]))

    def __mul__(self, count: SupportsIndex) -> TracedText:
        return TracedText(str.__mul__(self, count), np.tile(self.places, (max(0, count.__index__()), 1)))

    __rmul__ = __mul__

    def join(self, texts: Iterable[str], /) -> TracedText:
        """Return the texts with this text between them."""
        texts = [*texts]
        places = [part for text in texts for part in (self.places, places_of(text))][1:]
        return TracedText(str.join(self, texts), np.concatenate([self.places[:0], *places]))

    # Parts of the text

    def lstrip(self, chars: str | None = None, /) -> TracedText:
        """Return the text without characters at its beginning."""
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> TracedText:
        """Return the text without characters at its end."""
        return self[: len(str.rstrip(self, chars))]

    def strip(self, chars: str | None = None, /) -> TracedText:
        """Return the text without characters at both ends."""
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> TracedText:
        """Return the text without a prefix."""
        return self[len(prefix) :] if self.startswith(prefix) else self[:]

    def removesuffix(self, suffix: str, /) -> TracedText:
        """Return the text without a suffix."""
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self[:]

    def partition(self, sep: str, /) -> tuple[TracedText, TracedText, TracedText]:
        """Return the text before the first separator, the separator, and the rest."""
        return self._in_three(str.partition(self, sep))

    def rpartition(self, sep: str, /) -> tuple[TracedText, TracedText, TracedText]:
        """Return the text before the last separator, the separator, and the rest."""
        return self._in_three(str.rpartition(self, sep))

    def _in_three(self, parts: tuple[str, str, str]) -> tuple[TracedText, TracedText, TracedText]:
        first, second, third = self._consecutive(parts)
        return first, second, third

    def split(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[TracedText]:
        """Return the parts between separators, or between white space."""
        return self._apart(str.split(self, sep, maxsplit), sep)

    def rsplit(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[TracedText]:
        """Return the parts between separators, or between white space, of which the last are split first."""
        return self._apart(str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[TracedText]:  # type: ignore[override]
        """Return the lines."""
        lengths = [len(line) for line in str.splitlines(self, keepends)]
        lines = self._consecutive(str.splitlines(self, True))
        return [line[:length] for line, length in zip(lines, lengths, strict=True)]

    def _apart(self, parts: Sequence[str], sep: str | None) -> list[TracedText]:
        if sep is not None:
            return self._consecutive(parts, len(sep))
        found, end = [], 0
        for part in parts:  # white space is between the parts, so the next one begins at its first occurrence
            start = self.find(part, end)
            end = start + len(part)
            found.append(self[start:end])
        return found

    def _consecutive(self, parts: Sequence[str], gap: int = 0) -> list[TracedText]:
        """Return consecutive parts of the text, with ``gap`` characters between them."""
        starts = accumulate((len(part) + gap for part in parts), initial=0)
        return [self[start : start + len(part)] for start, part in zip(starts, parts, strict=False)]

    # Other characters

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> TracedText:
        """Return the text with other text in the place of each occurrence."""
        text, most = str(self), count.__index__()
        starts, start = list[int](), text.find(old)
        while start >= 0 and len(starts) != most:
            starts.append(start)
            start = text.find(old, start + max(len(old), 1))
        return self.replaced((start, start + len(old), new) for start in starts)

    def replaced(self, changes: Iterable[tuple[int, int, str]]) -> TracedText:
        """Return the text with other text in the place of some characters.

        Args:
            changes: Start, end and replacement of each change, in order. The replacement has the place of these
                characters if it does not have places of its own.
        """
        pieces: list[str] = []
        end = 0
        for start, stop, new in changes:
            pieces += [self[end:start], new if isinstance(new, TracedText) else self[start:stop].replaced_by(new)]
            end = stop
        return TracedText("").join([*pieces, self[end:]])

    def replaced_by(self, text: str) -> TracedText:
        """Return another text of which each character has the place of this whole text."""
        return TracedText(text, np.tile(np.array(_whole(self.places)), (len(text), 1)))

    def translate(self, table: Any, /) -> TracedText:
        """Return the text with each character replaced as a table says."""
        counts = [len(char.translate(table)) for char in str(self)]
        return TracedText(str.translate(self, table), np.repeat(self.places, counts, axis=0))

    def lower(self) -> TracedText:
        """Return the text in lower case."""
        return self._cased(str.lower)

    def upper(self) -> TracedText:
        """Return the text in upper case."""
        return self._cased(str.upper)

    def casefold(self) -> TracedText:
        """Return the text for comparisons that ignore case."""
        return self._cased(str.casefold)

    def swapcase(self) -> TracedText:
        """Return the text with upper case and lower case exchanged."""
        return self._cased(str.swapcase)

    def title(self) -> TracedText:
        """Return the text with words that begin in upper case."""
        return self._cased(str.title)

    def capitalize(self) -> TracedText:
        """Return the text with its first character in upper case, and the others in lower case."""
        return self._cased(str.capitalize)

    def _cased(self, change: Callable[[str], str]) -> TracedText:
        text = change(self)
        if len(text) == len(self):
            return TracedText(text, self.places)
        # The number of characters that one becomes can depend on the one before it: "\u01f0" in a title.
        neighbors = pairwise(["", *str(self)])
        counts = [len(change(before + char)) - len(change(before)) for before, char in neighbors]
        return TracedText(text, np.repeat(self.places, counts, axis=0))


def _whole(places: Places) -> Place:
    """Return the start of the first place and the end of the last; -1 for both if there is none."""
    known = places[places[:, 0] >= 0]
    return (int(known[:, 0].min()), int(known[:, 1].max())) if len(known) else (-1, -1)


def places_of(text: str) -> Places:
    """Return the place of each character; -1 for those of plain text."""
    return text.places if isinstance(text, TracedText) else np.full((len(text), 2), -1)


def added_text(text: str, *beside: str) -> str:
    """Return text that a step adds to other texts: a :class:`TracedText` without places if one of these is traced.

    Example:
        Join words, so that each keeps its place::

            value = TracedText("so  good")
            words = value.split()
            print(added_text(" ", value).join(words).places[3:])
    """
    for other in beside:
        if isinstance(other, TracedText):
            return TracedText(text, places_of(str(text)))
    return text
