"""Regular expressions for text steps: results of traced text keep the places of its characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from bsm_core.preprocess.tracing.traced_text import TracedText


def substitute(
    pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str], text: str, count: int = 0
) -> str:
    """Return what ``pattern.sub`` returns; of a :class:`TracedText`, a :class:`TracedText`.

    Each replacement has the place of the match.

    Example:
        Remove numbers::

            import re

            text = substitute(re.compile("[0-9]+"), "", TracedText("a 32B"))
            print(text, text.places[-1])
    """
    if not isinstance(text, TracedText):
        return pattern.sub(replacement, text, count)
    changes: list[tuple[int, int, str]] = []

    def noted(match: re.Match[str]) -> str:
        new = replacement(match) if callable(replacement) else match.expand(replacement)
        changes.append((*match.span(), new))
        return new

    pattern.sub(noted, str(text), count)
    return text.replaced(changes)


def split_at(pattern: re.Pattern[str], text: str) -> list[str | Any]:
    """Return what ``pattern.split`` returns; of a :class:`TracedText`, each part is a :class:`TracedText`.

    Example:
        Split a text at commas::

            import re

            for part in split_at(re.compile(", *"), TracedText("red, blue")):
                print(part, part.place)
    """
    if not isinstance(text, TracedText):
        return pattern.split(text)
    parts: list[str | Any] = []
    end = 0
    for match in pattern.finditer(str(text)):
        parts += [text[end : match.start()], *_groups(match, text, 1)]
        end = match.end()
    return [*parts, text[end:]]


def find_all(pattern: re.Pattern[str], text: str) -> list[Any]:
    """Return what ``pattern.findall`` returns; of a :class:`TracedText`, each found text is a :class:`TracedText`.

    Example:
        Find numbers::

            import re

            for number in find_all(re.compile("[0-9]+"), TracedText("32B or 34B")):
                print(number, number.place)
    """
    if not isinstance(text, TracedText):
        return pattern.findall(text)
    found = [tuple(_groups(match, text, min(pattern.groups, 1))) for match in pattern.finditer(str(text))]
    return [tuple(t or text[:0] for t in one) if pattern.groups > 1 else one[0] or text[:0] for one in found]


def _groups(match: re.Match[str], text: TracedText, first: int) -> Iterator[TracedText | None]:
    """Return the text of each group from ``first`` on; None for a group that matched nothing."""
    spans = (match.span(group) for group in range(first, len(match.groups()) + 1))
    return (text[start:end] if start >= 0 else None for start, end in spans)
