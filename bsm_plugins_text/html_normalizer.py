"""Text step ``html_normalizer``: from HTML to plain text."""

from __future__ import annotations

import warnings

from bs4 import BeautifulSoup, ParserRejectedMarkup

from bsm_core import TextStep, TracedText
from bsm_plugins_text.html_places import with_places
from bsm_plugins_text.original import Compat


class HTMLNormalizerProcessor(TextStep):
    """Step that returns the text nodes of HTML, each trimmed, joined by a space.

    Entities are decoded; scripts, styles and comments are dropped. A text without ``<`` and ``&`` does not change. A
    tag or comment that is not closed is ordinary text, as in ``a < b`` and ``a <b``. A declaration that the parser
    refuses is ordinary text too, as in ``a <![b``.

    Args:
        compat: ``"original"``: every text is parsed, so that white space around it is removed. A tag that is not closed
            is what the parser of this version of Python makes of it, which can be nothing.
    """

    uses = ("compat",)

    def __init__(self, compat: Compat = None) -> None:
        self._compat = compat

    def process(self, value: str) -> str:
        """Return the plain text of one HTML fragment."""
        if "<" not in value and "&" not in value:
            return value.strip() if self._compat == "original" else value
        markup = value if self._compat == "original" else _escape_unclosed(value)
        for refused in ("<![", "<!"):
            try:
                return _text_of(markup)
            except ParserRejectedMarkup:
                markup = markup.replace(refused, "&lt;" + refused[1:])
        return _text_of(markup)


def _text_of(markup: str) -> str:
    # Beautiful Soup warns if a text looks like a URL or XML.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        text: str = BeautifulSoup(str(markup), "html.parser").get_text(" ", strip=True)
        return with_places(text, markup) if isinstance(markup, TracedText) else text


def _escape_unclosed(markup: str) -> str:
    """Escape tags and comments that are not closed, and append a line break.

    Versions of Python parse them differently: some lose the rest of the text, others take quadratic time. Without the
    line break, some versions lose the ``&`` of an entity at the end of the text.
    """
    for begin, end in (("<!--", "-->"), ("<", ">")):
        closed = markup.rfind(end) + 1
        markup = markup[:closed] + markup[closed:].replace(begin, "&lt;" + begin[1:])
    return markup + "\n"
