"""``html_normalizer``: the text of an HTML fragment."""

from __future__ import annotations

import warnings

from bs4 import BeautifulSoup

from bsm_core import TextStep


class HTMLNormalizerProcessor(TextStep):
    """Takes the text nodes, trimmed, with one space between them; decodes entities; drops script, style and comments.

    Text without ``<`` or ``&`` passes untouched. A tag or comment that is never closed is text: ``a < b``, ``a <b``.
    """

    def process(self, value: str) -> str:
        """The text of one fragment."""
        if "<" not in value and "&" not in value:
            return value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Beautiful Soup's advice that this might be a URL, or XML
            return BeautifulSoup(_close(value), "html.parser").get_text(" ", strip=True)


def _close(markup: str) -> str:
    """Escape what is never closed.

    Pythons differ in what they make of it: some lose the rest of the text, others take quadratic time. The line break
    ends an entity at the end of the text, whose ``&`` some would lose.
    """
    for begin, end in (("<!--", "-->"), ("<", ">")):
        closed = markup.rfind(end) + 1
        markup = markup[:closed] + markup[closed:].replace(begin, "&lt;" + begin[1:])
    return markup + "\n"
