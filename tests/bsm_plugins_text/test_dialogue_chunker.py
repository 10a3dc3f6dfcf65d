import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_plugins_text import encoding
from bsm_plugins_text.dialogue_chunker import DialogueChunkerProcessor
from bsm_plugins_text.tokenizer import BertTokenizeProcessor

CHARACTERS = st.characters(exclude_categories=["Cs"])
TURNS = st.lists(
    st.one_of(st.text(CHARACTERS, max_size=20), st.text("hello is ,\u4f60\u597d😀é", max_size=20)), max_size=8
)


PARTS = ["hello ", "where", " ", "\n", "你", "好", "é", "parcel, ", "x" * 30, "\u0301", "Σ", "😀"]


def size(tokenizer, text):
    encoded = tokenizer(text, add_special_tokens=False, truncation=False, padding=False)
    return len(encoded["input_ids"])


@pytest.mark.parametrize(
    ("turns", "chunks"),
    [
        (["hello", "where is", "my parcel"], ["hello where is", "my parcel"]),
        (["it is", "late and", "sorry"], ["it is", "late and sorry"]),
        (["hello where is my parcel", "late"], ["hello where is", "late"]),
        (["hello", "", "  ", "late"], ["hello late"]),
        ([], ["."]),
        (["", " \n"], ["."]),
    ],
)
def test_whole_turns_in_chunks_of_three_words(words, turns, chunks):
    assert DialogueChunkerProcessor(words, 3).process(turns) == chunks


def test_special_tokens_take_room(wordpiece):
    turn = "hello"
    room = size(wordpiece, turn) * 2
    assert DialogueChunkerProcessor(wordpiece, room + 2).process([turn, turn]) == ["hello hello"]
    assert DialogueChunkerProcessor(wordpiece, room + 1).process([turn, turn]) == ["hello", "hello"]


def test_chunk_trancate_stops_after_max_total_chunks(words):
    turns = ["hello where is"] * 4
    assert DialogueChunkerProcessor(words, 3, chunk_trancate=True, max_total_chunks=2).process(turns) == turns[:2]
    assert DialogueChunkerProcessor(words, 3, chunk_trancate=False, max_total_chunks=2).process(turns) == turns


def test_chunk_truncate_is_an_alias_and_wins(words):
    turns = ["hello where is"] * 2
    on = DialogueChunkerProcessor(words, 3, max_total_chunks=1, chunk_truncate=True)
    off = DialogueChunkerProcessor(words, 3, chunk_trancate=True, max_total_chunks=1, chunk_truncate=False)
    assert on.process(turns) == turns[:1]
    assert off.process(turns) == turns


def test_a_long_turn_is_cut_in_its_own_spelling(wordpiece):
    text = "Hello,\twhere  is my  PARCEL?"
    [chunk] = DialogueChunkerProcessor(wordpiece, 8).process([text])
    assert text.startswith(chunk)
    assert size(wordpiece, chunk) == 6


def test_no_character_is_cut_in_two(byte_bpe):
    """Four tokens a character, room for five."""
    assert size(byte_bpe, "😀") == 4
    assert DialogueChunkerProcessor(byte_bpe, 7).process(["😀😀"]) == ["😀"]
    assert DialogueChunkerProcessor(byte_bpe, 5).process(["😀😀"]) == ["."]


def test_the_joining_space_can_be_a_token(byte_bpe):
    """Three tokens a character alone, and one more for the space before it."""
    turns = ["你", "你"]
    assert size(byte_bpe, "你 你") == 7
    assert DialogueChunkerProcessor(byte_bpe, 8).process(turns) == turns
    assert DialogueChunkerProcessor(byte_bpe, 9).process(turns) == ["你 你"]
    assert DialogueChunkerProcessor(byte_bpe, 8, chunk_trancate=True, max_total_chunks=1).process(turns) == ["你"]


def test_turns_without_a_token_are_no_text(wordpiece):
    assert size(wordpiece, "\u200b") == 0
    assert DialogueChunkerProcessor(wordpiece, 8).process(["\u200b", "\x00"]) == ["."]


def test_white_space_is_no_text_even_where_it_is_a_token(byte_bpe):
    assert size(byte_bpe, " \n") > 0
    assert DialogueChunkerProcessor(byte_bpe, 16).process(["late", " \n", "late"]) == ["late late"]
    assert DialogueChunkerProcessor(byte_bpe, 16).process([" \n"]) == ["."]


def test_no_warning_about_long_texts(wordpiece, caplog, monkeypatch):
    monkeypatch.setattr(wordpiece, "model_max_length", 4)
    monkeypatch.setattr(wordpiece, "deprecation_warnings", {})
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    DialogueChunkerProcessor(wordpiece, 64).process(["hello where is my parcel"])
    assert caplog.records == []


def test_a_turn_of_many_pages(tokenizer):
    [chunk] = DialogueChunkerProcessor(tokenizer, 64).process(["hello where is my parcel " * 4_000])
    assert chunk.startswith("hello where is my parcel")
    assert size(tokenizer, chunk) <= 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_sen_len": 2}, "max_sen_len: 2 leaves no room beside 2 special tokens"),
        ({"max_sen_len": 8, "max_total_chunks": 0}, "max_total_chunks: must be at least 1, not 0"),
    ],
)
def test_limits_are_checked(wordpiece, arguments, message):
    with pytest.raises(ValueError, match=message):
        DialogueChunkerProcessor(wordpiece, **arguments)


def test_a_slow_tokenizer_is_refused(wordpiece, monkeypatch):
    monkeypatch.setattr(type(wordpiece), "is_fast", property(lambda self: False))
    with pytest.raises(ValueError, match="tokenizer: must be a fast tokenizer, not"):
        DialogueChunkerProcessor(wordpiece, 8)


@settings(max_examples=40)
@given(turns=TURNS, max_sen_len=st.integers(4, 12))
def test_no_chunk_is_longer_than_the_model_reads(tokenizer, turns, max_sen_len):
    chunks = DialogueChunkerProcessor(tokenizer, max_sen_len).process(turns)
    room = max_sen_len - tokenizer.num_special_tokens_to_add()
    assert [chunk for chunk in chunks if size(tokenizer, chunk) > room] == []
    # So the tokenizer step cuts nothing.
    whole = BertTokenizeProcessor(tokenizer, 1000).process(chunks)
    assert BertTokenizeProcessor(tokenizer, max_sen_len).process(chunks) == whole


@settings(max_examples=40)
@given(
    turns=st.lists(
        st.lists(st.sampled_from(["hello", "is", "late", "and", "it", "sorry", "refund"]), min_size=1, max_size=5)
    )
)
def test_no_turn_is_lost(tokenizer, turns):
    texts = [" ".join(turn) for turn in turns]
    chunks = DialogueChunkerProcessor(tokenizer, 40).process(texts)
    assert " ".join(chunks) == (" ".join(texts) or ".")
    # Whole turns: each chunk ends where a turn ends.
    ends = {len(" ".join(texts[: i + 1])) for i in range(len(texts))}
    assert not texts or {len(" ".join(chunks[: i + 1])) for i in range(len(chunks))} <= ends


@settings(max_examples=40)
@given(rows=st.lists(TURNS, max_size=4))
def test_a_column_is_its_rows(tokenizer, rows):
    step = DialogueChunkerProcessor(tokenizer, 7)
    assert step.process_batch(rows) == [step.process(row) for row in rows]


@given(st.lists(st.sampled_from(PARTS), max_size=400))
@settings(max_examples=50)
def test_a_turn_that_is_cut_before_it_is_tokenized_has_the_same_tokens(wordpiece, words, parts):
    turn = "".join(parts) * 3
    for tokenizer in (wordpiece, words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoding, "_CHARS", 1)
            patch.setattr(encoding, "_SPARE", 8)
            short = encoding.shortened(tokenizer, [turn], 6)
            chunks = DialogueChunkerProcessor(tokenizer, 8).process([turn, "hello"])
            ids = BertTokenizeProcessor(tokenizer, 8).process([turn])
            patch.setattr(encoding, "_CHARS", 10**9)
            assert encoding.shortened(tokenizer, [turn], 6) == [turn]
            assert DialogueChunkerProcessor(tokenizer, 8).process([turn, "hello"]) == chunks
            assert BertTokenizeProcessor(tokenizer, 8).process([turn]) == ids
        assert turn.startswith(short[0])


def test_only_the_start_of_a_very_long_turn_is_tokenized(wordpiece):
    turn = "hello, where is my parcel? " * 100_000
    [short] = encoding.shortened(wordpiece, [turn], 100)
    assert len(short) < 10_000
    assert encoding.shortened(wordpiece, ["x" * 100_000], 100) == ["x" * 100_000]  # one word
