import sys
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_plugins_text.html_normalizer import HTMLNormalizerProcessor

plain = HTMLNormalizerProcessor().process


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>Hello</p> <b>world</b>", "Hello world"),
        ("one<br/>two<div class='m'> three </div>", "one two three"),
        ("R&amp;D &lt;none&gt; &eacute;&#8364;&#x20ac;", "R&D <none> é€€"),
        ("a<script>alert('x')</script><style>p {}</style><!-- no -->b", "a b"),
        ("<br/>", ""),
        ("<p>שלום &amp; e\u0301</p>", "שלום & e\u0301"),
    ],
)
def test_text_of_markup(markup, text):
    assert plain(markup) == text


@pytest.mark.parametrize(
    "text",
    ["a < b & c", "I <3 you", "a <b c", "a <!-- b", "AT&T", "fish & chips &", "1 < 2 <", "http://x.y/?q=1&region=2"],
)
def test_what_is_not_markup_is_kept(text):
    assert plain(text) == text


def test_an_unclosed_comment_hides_nothing_behind_it():
    assert plain("a <!-- <b>x</b> c") == "a <!-- x c"


def test_numbers_that_are_no_characters_become_the_replacement_character():
    assert plain("a&#xD800;b &#0; &#x110000;") == "a\ufffdb \ufffd \ufffd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <![x b", "a <![x b"),
        ("<b>a</b> <![x]> <i>c</i>", "a <![x]> c"),
        ("<![x <!-- a --> d", "<![x d"),
        ("<![CDATA[a]]> b", "a b"),
        ("<![if IE]>a<![endif]> b", "a b"),
    ],
)
def test_a_declaration_that_the_parser_refuses_is_text(text, expected):
    assert plain(text) == expected


@given(st.text("<!->[]x &;#") | st.text())
def test_no_text_is_refused(text):
    assert isinstance(plain(text), str)


@given(st.text(st.characters(exclude_characters="<&")))
def test_text_without_markup_is_untouched(text):
    assert plain(text) == text


@given(st.text())
def test_any_text_survives(text):
    assert isinstance(plain(f"{text}<b>&"), str)


@pytest.mark.parametrize("text", ["https://a.b/?c=1&d=2", "<?xml version='1.0'?><a>x</a>"])
def test_no_advice_of_beautiful_soup_reaches_the_user(text):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        plain(text)
        assert warnings.filters == filters
    assert seen == []


@pytest.mark.parametrize("piece", ["<a ", "<a x='", "<!--", "<!", "</", "<?", "<![CDATA["])
@pytest.mark.parametrize("end", ["", "x>"])
def test_broken_markup_takes_linear_time(piece, end):
    """Some 0.1 s; parsers that look for the end from every start take from 5 s to a minute."""
    start = time.process_time()
    plain(piece * 20_000 + end)
    assert time.process_time() - start < 2


def test_deep_nesting():
    depth = sys.getrecursionlimit() * 5
    assert plain("<b>" * depth + "deep") == "deep"
