import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_plugins_text.dialogue_chunker import DialogueChunkerProcessor
from bsm_plugins_text.tokenizer import BertTokenizeProcessor

TEXT = "hello where is my parcel"
ROWS = st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4), max_size=4)


def test_special_tokens_and_no_padding(wordpiece):
    step = BertTokenizeProcessor(wordpiece, 64)
    [[short], [long]] = step.process_batch([["late"], [TEXT]])
    assert short[0] == long[0] == wordpiece.cls_token_id
    assert short[-1] == long[-1] == wordpiece.sep_token_id
    assert wordpiece.pad_token_id not in short
    assert wordpiece.decode(long, skip_special_tokens=True) == TEXT


def test_truncated_to_max_sen_len_special_tokens_included(wordpiece):
    [whole] = BertTokenizeProcessor(wordpiece, 64).process([TEXT])
    [cut] = BertTokenizeProcessor(wordpiece, 4).process([TEXT])
    assert len(whole) > 4
    assert cut == [*whole[:3], wordpiece.sep_token_id]


def test_a_tokenizer_without_special_tokens(words):
    assert BertTokenizeProcessor(words, 3).process([TEXT, "it"]) == [
        words.convert_tokens_to_ids(["hello", "where", "is"]),
        words.convert_tokens_to_ids(["it"]),
    ]


def test_settings_of_one_step_do_not_reach_another(wordpiece):
    step, long_step = BertTokenizeProcessor(wordpiece, 4), BertTokenizeProcessor(wordpiece, 64)
    chunker = DialogueChunkerProcessor(wordpiece, 64)
    long = long_step.process([TEXT])
    assert len(step.process([TEXT])[0]) == 4
    assert chunker.process([TEXT]) == [TEXT]
    assert long_step.process([TEXT]) == long
    wordpiece(TEXT, padding="max_length", truncation=True, max_length=5)
    assert long_step.process([TEXT]) == long


def test_no_chunks(wordpiece):
    assert BertTokenizeProcessor(wordpiece, 8).process_batch([]) == []
    assert BertTokenizeProcessor(wordpiece, 8).process_batch([[], []]) == [[], []]


@pytest.mark.parametrize("max_sen_len", [0, 2])
def test_room_beside_the_special_tokens(wordpiece, max_sen_len):
    with pytest.raises(ValueError, match=f"max_sen_len: {max_sen_len} leaves no room beside 2 special tokens"):
        BertTokenizeProcessor(wordpiece, max_sen_len)


@settings(max_examples=40)
@given(rows=ROWS)
def test_a_column_is_its_rows(tokenizer, rows):
    step = BertTokenizeProcessor(tokenizer, 6)
    column = step.process_batch(rows)
    assert column == [step.process(row) for row in rows]
    assert all(len(ids) <= 6 for row in column for ids in row)
