"""Places of the characters that Beautiful Soup finds in HTML."""

from __future__ import annotations

import re
from functools import lru_cache
from html.parser import HTMLParser
from itertools import accumulate, pairwise
from typing import NamedTuple

from bs4 import BeautifulSoup

from bsm_core import TracedText, added_text

_MARK = re.compile("\ue000([0-9]+)\ue001")


class _HTMLPiece(NamedTuple):
    """Piece of HTML: text, an entity, or what is neither, such as a tag. Each ends where the next one begins."""

    start: int
    is_text: bool = False
    is_entity: bool = False


class _Pieces(HTMLParser):
    """Parser that records where the pieces of HTML begin. Beautiful Soup parses with the same base class."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=False)
        self._lines = [*accumulate(map(len, markup.split("\n")), lambda start, size: start + size + 1, initial=0)]
        self.found: list[_HTMLPiece] = []
        self.feed(markup)
        self.close()
        self.found.append(_HTMLPiece(len(markup)))

    def _add(self, is_text: bool = False, is_entity: bool = False, after: int = 0) -> None:
        line, column = self.getpos()
        self.found.append(_HTMLPiece(self._lines[line - 1] + column + after, is_text, is_entity))

    def handle_data(self, data: str) -> None:
        self._add(is_text=True)

    def handle_entityref(self, name: str) -> None:
        self._add(is_entity=True)

    handle_charref = handle_entityref

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add()

    def handle_endtag(self, tag: str) -> None:
        self._add()

    def handle_comment(self, data: str) -> None:
        self._add()

    def handle_decl(self, decl: str) -> None:
        self._add()

    def handle_pi(self, data: str) -> None:
        self._add()

    def unknown_decl(self, data: str) -> None:
        self._add()
        if data.upper().startswith("CDATA["):
            self._add(is_text=True, after=len("<![CDATA["))
            self._add(after=len("<![") + len(data))


def with_places(text: str, markup: TracedText) -> str:
    """Return the text of HTML, with the places of its characters.

    All characters of an entity have the place of the entity. The text is plain, without places, if its characters are
    not found in the HTML in their order.

    Args:
        text: The text that Beautiful Soup finds in the HTML.
        markup: The HTML.
    """
    pieces: list[TracedText] = []
    marked = ""
    for piece, after in pairwise(_Pieces(str(markup)).found):
        source = markup[piece.start : after.start]
        if not (piece.is_text or piece.is_entity):
            marked += str(source)
            continue
        marked += f"\ue000{len(pieces)}\ue001"
        pieces.append(_decoded(source) if piece.is_entity else source)
    # Beautiful Soup itself says which pieces its text has: not those of scripts, for example.
    kept = _MARK.findall(BeautifulSoup(marked, "html.parser").get_text())
    return _aligned(text, markup[:0].join(pieces[int(number)] for number in kept))


def _decoded(source: TracedText) -> TracedText:
    decoded = _text_of_entity(str(source))
    is_entity = decoded not in (source, source[:-1])  # else ordinary text, as in AT&T
    return source.replaced_by(decoded) if is_entity else source[: len(decoded)]


@lru_cache(maxsize=1024)
def _text_of_entity(source: str) -> str:
    text: str = BeautifulSoup(f"{source}\n", "html.parser").get_text()
    return text.removesuffix("\n")


def _aligned(text: str, source: TracedText) -> str:
    """Return the text with the places of its characters in the source, which may have other white space."""
    plain, pieces = str(source), list[str]()
    at = 0
    for char in text:
        start = at
        while plain[start : start + 1].isspace() and plain[start] != char:
            start += 1
        if plain[start : start + 1] == char:
            pieces.append(source[start])
            at = start + 1
        elif char == " ":
            pieces.append(char)
        else:
            return text
    return added_text("", source).join(pieces)
