import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace
from transformers import PreTrainedTokenizerFast

from bsm_plugins_text.dialogue_chunker import DialogueChunkerProcessor
from bsm_plugins_text.encoding import EncodedText, _guarded, encode, ends_of_tokens, with_special_tokens
from bsm_plugins_text.tokenizer import BertTokenizeProcessor

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.lists(st.one_of(st.text(CHARACTERS), st.text("hello is ,\u4f60\u597d😀é[SEP]", max_size=40)), max_size=6)


def reference(tokenizer, texts, **options):
    """Token ids as transformers itself gives them."""
    return [tokenizer(text, padding=False, **options)["input_ids"] for text in texts]


def test_a_regular_expression_that_takes_too_many_steps_is_an_error():
    backend = Tokenizer(WordLevel({"x": 0}, unk_token="x"))
    backend.normalizer = Replace(Regex("(x+x+)+y"), "")
    with pytest.raises(ValueError, match="the tokenizer failed"):
        encode(PreTrainedTokenizerFast(tokenizer_object=backend), ["x" * 100])


@pytest.fixture(params=["right", "left"])
def side(request, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "truncation_side", request.param)


@pytest.fixture(params=[False, True])
def split(request, tokenizer, monkeypatch):
    """Whether ``[SEP]`` in a text is text."""
    monkeypatch.setattr(tokenizer, "split_special_tokens", request.param)


@pytest.mark.usefixtures("side", "split")
@settings(max_examples=30)
@given(texts=TEXTS, most=st.integers(3, 12))
def test_ids_are_those_of_transformers(tokenizer, texts, most):
    encoded = encode(tokenizer, texts)
    assert encoded == texts
    assert [text.encoding.ids for text in encoded] == reference(tokenizer, texts, add_special_tokens=False)
    ids = with_special_tokens(tokenizer, encoded, most)
    assert ids == reference(tokenizer, texts, truncation=True, max_length=most)
    assert with_special_tokens(tokenizer, encoded, 500) == reference(tokenizer, texts)  # nothing was cut for good


@settings(max_examples=50)
@given(rows=st.lists(TEXTS, max_size=3), longest=st.integers(3, 12))
def test_remembered_tokens_are_those_of_the_plain_text(tokenizer, rows, longest):
    chunks = DialogueChunkerProcessor(tokenizer, longest).process_batch(rows)
    for most in (longest, 3):
        step = BertTokenizeProcessor(tokenizer, most)
        plain = [[str(chunk) for chunk in row] for row in chunks]
        assert step.process_batch(chunks) == step.process_batch(plain)


def test_a_known_text_is_not_tokenized_again(wordpiece):
    [known] = encode(wordpiece, ["hello"])
    again, new = encode(wordpiece, [known, "late"])
    assert again is known
    assert new.encoding.ids == wordpiece("late", add_special_tokens=False)["input_ids"]


def test_what_one_tokenizer_found_is_nothing_to_another(wordpiece, byte_bpe):
    [text] = encode(byte_bpe, encode(wordpiece, ["hello"]))
    assert text.tokenizer is byte_bpe
    assert text.encoding.ids == byte_bpe("hello", add_special_tokens=False)["input_ids"]


@settings(max_examples=30)
@given(text=st.text(CHARACTERS, min_size=1), data=st.data())
def test_ends_of_tokens(tokenizer, text, data):
    expected = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if expected:
        count = data.draw(st.integers(1, len(expected)))
        assert ends_of_tokens(tokenizer, [text], count) == [expected[count - 1][1]]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda text: pickle.loads(pickle.dumps(text))])
def test_a_copy_is_plain_text(wordpiece, again):
    [text] = encode(wordpiece, ["hello late"])
    assert isinstance(text, EncodedText)
    assert type(again(text)) is str
    assert again(text) == text == "hello late"
    assert text.size == 2


@pytest.mark.parametrize("call", [lambda t: encode(t, ["a", "\ud800"]), lambda t: ends_of_tokens(t, ["\ud800"], 1)])
def test_half_a_surrogate_pair(wordpiece, call):
    with pytest.raises(ValueError, match="half of a surrogate pair is not Unicode text"):
        call(wordpiece)


def test_a_panic_of_the_tokenizers_library_is_an_error():
    class PanicException(BaseException):
        pass

    def panics(*_):
        raise PanicException("index out of range")

    with pytest.raises(ValueError, match="index out of range"):
        _guarded(panics, 1)
