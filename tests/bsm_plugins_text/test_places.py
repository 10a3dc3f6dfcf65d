"""Places of characters and tokens in the cell, through all steps: the characters at a place read as the token."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bsm_core import Kind, Pipeline, TextStep, TracedChunk, TracedText
from bsm_core.artifact.config import StepSpec
from bsm_core.preprocess.steps import StepContext
from bsm_plugins_text.cs_adapter import CSAdapterProcessor
from bsm_plugins_text.cs_chat_splitter import CSChatSplitterProcessor
from bsm_plugins_text.dialogue_splitter import DialogueSplitterProcessor
from bsm_plugins_text.emoji_remover import EmojiRemoverProcessor
from bsm_plugins_text.html_normalizer import HTMLNormalizerProcessor
from bsm_plugins_text.text_normalizer import TextNormalizationProcessor
from bsm_plugins_text.text_upper import TextUpperProcessor

FULL = ["dialogue_splitter", "html_normalizer", "emoji_remover", "text_normalizer", "dialogue_chunker", "tokenizer"]
PIECES = st.sampled_from(
    [
        *(
            "[bom] ",
            " [eom]",
            "[bom]",
            "<p>",
            "</p>",
            "<b>",
            "</b>",
            "<br>",
            "<br/>",
            "<!-- c -->",
            "<style>p{}</style>",
        ),
        *(
            "<script>x('<b>')</script>",
            "&amp;",
            "&lt;",
            "&#233;",
            "&nbsp;",
            "&bogus;",
            "&",
            "< ",
            "a<b",
            "<a href='&amp;'>",
        ),
        *(
            "😀",
            "👍🏽",
            "👨‍👩‍👧",
            "❤️",
            "1️⃣",
            "🇫🇷",
            "©",
            "hello ",
            " where",
            " is ",
            "my parcel ",
            " late",
            "12 34",
            ",",
            ".",
        ),
        *(
            "Straße",
            "İs",
            "ﬁne",
            "é",
            "e\u0301",
            "“late”",
            "…",
            "Ｆull",
            "你好",
            "Å",
            "[SEP]",
            "\n",
            "  ",
            "\u200b",
            "x" * 30,
        ),
    ]
)
CELLS = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=25).map("".join)


def pipeline(tokenizer: Any, steps: list[str] = FULL, max_sen_len: int = 12, **config: Any) -> Pipeline:
    values = {"max_sen_len": max_sen_len, **config}
    return Pipeline([StepSpec(step) for step in steps], StepContext("chat", tokenizer, values))


def read(text: str) -> str:
    """The letters of a text, in one spelling."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in text if unicodedata.category(c)[0] not in "ZCM" and c != "▁")


def cleaned(made: Pipeline, piece: str) -> str:
    """Return a piece of a cell after the steps from text to text."""
    piece = re.sub(r"\[eom\].*?\[bom\]|\[bom\]", " ", piece, flags=re.DOTALL)
    for step in made.steps:
        if step.step.takes is step.step.gives is Kind.TEXT:
            piece = step.step.process(piece)
    return piece


def spelled(tokenizer: Any, tokens: list[str]) -> str | None:
    """The text of neighboring tokens; None if a token says nothing of its text."""
    if "[UNK]" in tokens:
        return None
    decoder = tokenizer.backend_tokenizer.decoder
    text = "".join(token.removeprefix("##") for token in tokens) if decoder is None else decoder.decode(tokens)
    return None if "\ufffd" in text else text


def groups(chunk: TracedChunk) -> list[tuple[list[str], tuple[int, int]]]:
    """The tokens with a place; those that share characters, such as the bytes of one, are together."""
    found: list[tuple[list[str], tuple[int, int]]] = []
    for token, place in zip(chunk.tokens, chunk.places, strict=True):
        if place is not None and found and place[0] < found[-1][1][1]:
            tokens, (start, end) = found.pop()
            found.append(([*tokens, token], (start, max(end, place[1]))))
        elif place is not None:
            found.append(([token], place))
    return found


def check(tokenizer: Any, made: Pipeline, cell: str) -> list[TracedChunk]:
    chunks = made.trace(cell)
    assert [chunk.ids for chunk in chunks] == made([cell])[0][0]
    assert {chunk.lost_by for chunk in chunks} == {None}
    assert [chunk.tokens for chunk in chunks] == [tokenizer.convert_ids_to_tokens(chunk.ids) for chunk in chunks]
    places = [place for chunk in chunks for place in chunk.places if place is not None]
    for column in zip(*places, strict=True):
        assert [*column] == sorted(column)
    assert all(0 <= start < end <= len(cell) for start, end in places)
    for chunk in chunks:
        for token, place in zip(chunk.tokens, chunk.places, strict=True):
            piece = cell[slice(*place)] if place is not None else ""
            assert piece.strip() in (piece, "")
            assert token.strip("▁Ġ") or not cleaned(made, piece).strip()  # a space alone
        for tokens, (start, end) in groups(chunk):
            text, stood = spelled(tokenizer, tokens), read(cleaned(made, cell[start:end]))
            is_last = end == max(place[1] for place in chunk.places if place is not None)
            # The three dots of an ellipsis can be cut apart.
            assert text is None or read(text) == stood or (is_last and stood.startswith(read(text))), (tokens, stood)
        without = [
            token.strip("▁Ġ")
            for token, place, word in zip(chunk.tokens, chunk.places, chunk.words, strict=True)
            if place is None and word is not None
        ]
        assert not read("".join(without)) or (read("".join(without)) == "." and len(places) == 0)
    words = [word for chunk in chunks for word in chunk.words if word is not None]
    assert [*dict.fromkeys(words)] == [*range(len({*words}))]
    assert words == sorted(words)
    return chunks


@settings(max_examples=60, deadline=None)
@given(cell=CELLS, max_sen_len=st.integers(6, 14), normalized=st.booleans())
@example(
    cell="[bom] <b>Hello</b> &amp; where's my parcel😀? [eom] [bom] It is late [eom]", max_sen_len=12, normalized=False
)
@example(cell="hello where is my parcel " * 200, max_sen_len=40, normalized=True)
def test_the_characters_at_a_place_read_as_the_token(any_tokenizer, cell, max_sen_len, normalized):
    steps = [step for step in FULL if normalized or step != "text_normalizer"]
    check(any_tokenizer, pipeline(any_tokenizer, steps, max_sen_len=max_sen_len), cell)


def test_other_steps(any_tokenizer):
    steps = ["cs_chat_splitter", "cs_adapter", "emoji_remover", "text_upper", "dialogue_chunker", "tokenizer"]
    cell = "[bot]: How can  I help?😀 [customer]: my parcel is late , sorry [agent]: [bot]: refund"
    made = pipeline(any_tokenizer, steps, max_sen_len=16)
    chunks = made.trace(cell)
    assert [chunk.ids for chunk in chunks] == made([cell])[0][0]
    for tokens, (start, end) in (group for chunk in chunks for group in groups(chunk)):
        text = spelled(any_tokenizer, tokens)
        assert text is None or read(text) == read(cleaned(made, cell[start:end]))


# Each step, by hand

HTML = HTMLNormalizerProcessor()
STEPS: dict[str, tuple[TextStep, str, list[str], list[str | None]]] = {
    "turns": (
        DialogueSplitterProcessor(),
        "x [bom] one [eom] [bom]two",
        ["one", "two"],
        [*"one", *"two"],
    ),
    "no marker": (DialogueSplitterProcessor(), " one ", ["one"], [*"one"]),
    "original turns": (
        DialogueSplitterProcessor(compat="original"),
        "one [bom] one [eom] [bom] two",
        ["one"],
        [*"one"],
    ),
    "entities": (
        HTML,
        "T &amp; &#233;&nbsp;&copy &x;",
        ["T & é\xa0© &x"],
        [*"T ", "&amp;", " ", "&#233;", "&nbsp;", "&copy", *" &x"],
    ),
    "tags": (HTML, "<p>a<b>b</b> c</p>\n<br>d", ["a b c d"], ["a", None, "b", " ", "c", None, "d"]),
    "scripts": (HTML, "a<script>a</script><!-- a -->a<style>b</style>", ["a a"], ["a", None, "a"]),
    "cdata": (HTML, "<p>a<![CDATA[ b ]]></p>", ["a b"], ["a", " ", "b"]),
    "not closed": (HTML, "a < b &lt; <c", ["a < b < <c"], [*"a < b ", "&lt;", *" <c"]),
    "a tag that is closed twice": (HTML, "<br>a</br>b", ["ab"], ["a", "b"]),
    "ruby and templates": (HTML, "<ruby>a<rt>b</ruby>c<template>d</template>", ["a c"], ["a", None, "c"]),
    "no html": (HTML, " a ", [" a "], [*" a "]),
    "original html": (HTMLNormalizerProcessor(compat="original"), " a ", ["a"], ["a"]),
    "emoji": (EmojiRemoverProcessor(), "a👍🏽b ❤️c", ["ab c"], [*"ab c"]),
    "original emoji": (EmojiRemoverProcessor(compat="original"), "a日😀b", ["ab"], [*"ab"]),
    "normalized": (
        TextNormalizationProcessor(),
        " “Ｓo”\n\t İs… ",
        ['"so" i̇s...'],
        [*"“Ｓo”", None, "İ", "İ", "s", "…", "…", "…"],
    ),
    "upper case": (TextUpperProcessor(), " aß  b", ["ASS B"], ["a", "ß", "ß", None, "b"]),
    "chat": (
        CSAdapterProcessor(),
        "[bot]: hi [agent]:  you",
        ["[bot]: hi", "[agent]: you"],
        [None, *"bot", *[None] * 3, *"hi", None, *"agent", *[None] * 3, *"you"],
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_each_character_of_a_step_stands_where_it_stood(name):
    step, cell, texts, stood = STEPS[name]
    value = CSChatSplitterProcessor().process(TracedText(cell)) if name == "chat" else TracedText(cell)
    result = step.process(value)
    found = result if isinstance(result, list) else [result]
    assert found == texts
    pieces = [character.place and cell[slice(*character.place)] for text in found for character in text]
    assert pieces == stood


def shown(chunk: TracedChunk, cell: str) -> list[tuple[str, str | None]]:
    return [(token, place and cell[slice(*place)]) for token, place in zip(chunk.tokens, chunk.places, strict=True)]


def test_tokens_words_and_chunks(uncased):
    cell = "[bom] Hello&#44; <b>parcél</b> [eom] [bom]is it late?[eom]"
    first, second = pipeline(uncased, max_sen_len=7).trace(cell)
    assert shown(first, cell) == [
        ("[CLS]", None),
        ("hello", "Hello"),
        (",", "&#44;"),
        ("parcel", "parcél"),
        ("[SEP]", None),
    ]
    assert shown(second, cell)[1:4] == [("is", "is"), ("it", "it"), ("late", "late")]
    assert (first.words, second.words) == ([None, 0, 1, 2, None], [None, 3, 4, 5, 6, None])


def test_pieces_of_one_word_have_its_number(uncased):
    [chunk] = pipeline(uncased).trace("parcels late")
    assert chunk.tokens[1:3] == ["parcel", "##s"]
    assert (chunk.words[1:4], chunk.places[1:3]) == ([0, 0, 1], [(0, 6), (6, 7)])


def test_white_space_begins_a_word_where_the_tokenizer_does_not_split(any_tokenizer):
    cell = "hello where is"
    [chunk] = pipeline(any_tokenizer, ["dialogue_chunker", "tokenizer"], max_sen_len=40).trace(cell)
    starts = {place[0]: word for place, word in zip(chunk.places, chunk.words, strict=True) if place is not None}
    assert starts[0] == 0
    assert starts.get(6, 1) > 0


@pytest.mark.parametrize("cell", ["", "[bom] [eom]", "😀", "\u200b"])
def test_a_cell_without_text(uncased, cell):
    [chunk] = pipeline(uncased).trace(cell)
    assert (chunk.tokens, chunk.places, chunk.lost_by) == (["[CLS]", ".", "[SEP]"], [None] * 3, None)


def test_what_the_original_decodes_has_no_places(uncased):
    made = pipeline(uncased, max_sen_len=8, compat="original")
    cell = "[bom]hello[eom] [bom]" + "where is my parcel " * 3 + "[eom]"
    first, second = made.trace(cell)
    assert [first.ids, second.ids] == made([cell])[0][0]
    assert shown(first, cell)[1] == ("hello", "hello")
    assert second.places == [None] * len(second.ids)
    assert first.lost_by == second.lost_by == "dialogue_chunker"


@pytest.mark.parametrize("side", ["left", "right"])
def test_tokens_that_are_cut_by_the_tokenizer(any_tokenizer, side, monkeypatch):
    monkeypatch.setattr(any_tokenizer, "truncation_side", side)
    check(any_tokenizer, pipeline(any_tokenizer, ["tokenizer"], max_sen_len=6), "hello where is my parcel late")


def test_html_that_is_not_found_again_has_no_places(uncased, monkeypatch):
    monkeypatch.setattr("bsm_plugins_text.html_places._text_of_entity", lambda source: "?")
    [chunk] = pipeline(uncased).trace("late &amp; sorry")
    assert (chunk.lost_by, chunk.places) == ("html_normalizer", [None] * len(chunk.ids))
