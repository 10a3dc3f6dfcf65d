"""Steps with ``compat="original"``: what the steps of the original project give, as its public code says."""

import pytest

from bsm_plugins_text.cs_chat_splitter import CSChatSplitterProcessor
from bsm_plugins_text.dialogue_chunker import DialogueChunkerProcessor
from bsm_plugins_text.dialogue_splitter import DialogueSplitterProcessor
from bsm_plugins_text.emoji_remover import EmojiRemoverProcessor
from bsm_plugins_text.html_normalizer import HTMLNormalizerProcessor
from bsm_plugins_text.text_normalizer import TextNormalizationProcessor
from bsm_plugins_text.tokenizer import BertTokenizeProcessor


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("[bom] one [eom] between [bom]two\nlines[eom]", ["one", "two\nlines"]),
        ("no marker", []),
        ("", []),
        ("[BOM] capitals [EOM]", []),
        ("[bom] no end", []),
        ("[bom] one [eom] [bom] no end", ["one"]),
        ("[bom] one [bom] two [eom] three [eom]", ["one [bom] two"]),
        ("[bom] \n [eom]", []),
        ("before [eom] [bom] one [eom]", ["one"]),
        pytest.param("[bom] one [eom]" + "[bom]" * 200_000, ["one"], id="many without an end"),
    ],
)
def test_only_what_stands_between_a_pair_of_markers_is_a_turn(text, turns):
    assert DialogueSplitterProcessor(compat="original").process(text) == turns


@pytest.mark.parametrize(("text", "messages"), [("no marker", []), ("[bot]: hi", [{"role": "bot", "content": "hi"}])])
def test_a_chat_without_markers_has_no_message(text, messages):
    assert CSChatSplitterProcessor(compat="original").process(text) == messages


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("hi 😀👍🚀", "hi "),
        ("hi 🥺 🫠", "hi 🥺 🫠"),  # newer than its ranges
        ("👍🏽", ""),
        ("⏰⌚", "⏰⌚"),  # between two ranges
        ("✂❤", ""),
        ("© ™ ⓒ ─", "© ™  "),
        ("私の 주문 ｗ", "  "),
        ("café “q” — …", "café “q” — …"),
    ],
)
def test_symbols_of_the_ranges_are_removed(text, rest):
    assert EmojiRemoverProcessor(compat="original").process(text) == rest


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  a  b ", "a  b"),
        ("<p>a</p> <p>b</p>", "a b"),
        ("AT&amp;T &lt;b&gt;", "AT&T <b>"),
        ("<style>p{}</style>a<script>x()</script>", "a"),
        ("a < b and c > d", "a < b and c > d"),
        ("a <![x", "a <![x"),  # the original fails on it
    ],
)
def test_every_text_goes_through_the_parser(text, plain):
    assert HTMLNormalizerProcessor(compat="original").process(text) == plain


def test_punctuation_stays():
    assert TextNormalizationProcessor(compat="original").process("  “So”  —\tGOOD… ｗ") == "“so” — good… ｗ"


def test_a_chunk_has_no_room_for_special_tokens_and_is_cut_later(wordpiece):
    turns = ["hello where is my parcel"]
    size = len(wordpiece(turns[0], add_special_tokens=False)["input_ids"])
    assert DialogueChunkerProcessor(wordpiece, size, compat="original").process(turns) == turns
    [ids] = BertTokenizeProcessor(wordpiece, size).process(turns)
    assert ids == wordpiece(turns[0], max_length=size, truncation=True)["input_ids"]


def test_a_long_turn_becomes_what_the_tokenizer_decodes(wordpiece):
    ids = wordpiece("Hello,\twhere  is my  PARCEL?", add_special_tokens=False)["input_ids"]
    chunks = DialogueChunkerProcessor(wordpiece, 4, compat="original").process(["Hello,\twhere  is my  PARCEL?"])
    assert chunks == [wordpiece.decode(ids[:4], skip_special_tokens=True)]
    assert chunks == [", where is"]  # without the unknown word, which is a special token


@pytest.mark.parametrize(
    ("turns", "chunks"),
    [
        (["hello", "where is", "my parcel"], ["hello where is", "my parcel"]),
        (["hello", "", "late"], ["hello  late"]),  # a turn without tokens stays between two spaces
        (["hello where is", "", "late"], ["hello where is", "late"]),
        ([], ["."]),
        (["", " "], ["."]),
    ],
)
def test_turns_are_packed_by_the_sum_of_their_tokens(words, turns, chunks):
    assert DialogueChunkerProcessor(words, 3, compat="original").process(turns) == chunks


def test_the_number_of_chunks_is_limited(words):
    step = DialogueChunkerProcessor(words, 3, chunk_trancate=True, max_total_chunks=2, compat="original")
    assert step.process(["hello where is"] * 4) == ["hello where is"] * 2
