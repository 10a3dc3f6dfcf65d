"""Regular expressions on traced text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import TracedText, find_all, split_at, substitute

PATTERNS = [re.compile(p) for p in ("b+", "(a)|(b)", "a*", r"\b", "(?P<one>a)(b)?", "$", "x")]


@given(cell=st.text("abc ", max_size=8), pattern=st.sampled_from(PATTERNS), count=st.integers(0, 2))
def test_results_are_those_of_plain_text(cell, pattern, count):
    text = TracedText(cell)
    for new in ("", "<&>", lambda match: match[0].upper()):
        assert substitute(pattern, new, text, count) == substitute(pattern, new, cell, count)
    assert substitute(pattern, new, cell, count) == pattern.sub(new, cell, count)
    assert split_at(pattern, text) == split_at(pattern, cell) == pattern.split(cell)
    assert find_all(pattern, text) == find_all(pattern, cell) == pattern.findall(cell)
    for part in split_at(pattern, text):
        assert part is None or [cell[c.place[0]] for c in part] == [*part]


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "stood"),
    [
        ("b+", "-", "a-c", ["a", "bb", "c"]),
        ("b(b)", r"<\1>", "a<b>c", ["a", "bb", "bb", "bb", "c"]),
        ("b", lambda match: TracedText("abbc")[0], "aaac", ["a", "a", "a", "c"]),
        ("$", "!", "abbc!", ["a", "b", "b", "c", None]),
    ],
)
def test_a_replacement_has_the_place_of_the_match(pattern, replacement, text, stood):
    cell = "abbc"
    result = substitute(re.compile(pattern), replacement, TracedText(cell))
    assert result == text
    assert [c.place and cell[slice(*c.place)] for c in result] == stood


def test_found_text_has_its_own_place():
    text = TracedText("one [two] three [four]")
    assert [part.place for part in find_all(re.compile(r"\[(\w+)\]"), text)] == [(5, 8), (17, 21)]
    assert [part.place for part in find_all(re.compile(r"\w+"), text)][1] == (5, 8)
    [(first, second)] = find_all(re.compile("(o)n(x?)"), text)
    assert (first.place, second.place, type(second)) == ((0, 1), None, TracedText)
    assert [part and part.place for part in split_at(re.compile(r"\[(two|(x))\]"), text)][:3] == [(0, 4), (5, 8), None]
