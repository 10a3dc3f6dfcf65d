from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.training import wordpiece
from bsm_core.training.wordpiece import SPECIAL_TOKENS, fit_wordpiece

TEXTS = [
    "This dress is perfection! so pretty and flattering, I'd buy it again",
    "Great casual top with flare. looks cute with grey stet jeans.",
    "Ein schönes Kleid für 39€ … прекрасное платье, 素敵なドレス 👗 👗🏽 1234567890",
    "aaa aab abb bbb bba baa ab ba a b " * 3,
]


def fit(texts=TEXTS, vocab_size=200, min_frequency=1, max_length=32):
    return fit_wordpiece(texts, vocab_size=vocab_size, min_frequency=min_frequency, max_length=max_length)


def test_the_vocabulary_is_the_same_in_every_process():
    # Rust's hash maps, in which the trainer counts, are ordered otherwise in each process.
    code = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("wordpiece", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module._vocabulary(json.load(sys.stdin), 200, 1)))
"""
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code, wordpiece.__file__],
                input=json.dumps(TEXTS),
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for seed in ("0", "1", "7")
    ]
    assert found[0] == found[1] == found[2] == fit().get_vocab()


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=6), st.integers(6, 90), st.integers(1, 3))
def test_the_same_texts_give_the_same_bytes_and_no_more_than_was_asked_for(texts, vocab_size, min_frequency):
    tokenizer = fit(texts, vocab_size, min_frequency)
    assert tokenizer.backend_tokenizer.to_str() == fit(texts, vocab_size, min_frequency).backend_tokenizer.to_str()
    vocabulary = tokenizer.get_vocab()
    assert len(tokenizer) == len(vocabulary) <= vocab_size
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert [vocabulary[token] for token in SPECIAL_TOKENS.values()] == [0, 1, 2, 3, 4]
    assert sorted(tokenizer.all_special_tokens) == sorted(SPECIAL_TOKENS.values())
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (2, 3)
        assert max(ids) < len(vocabulary)


def test_words_seen_often_enough_have_a_token_and_others_are_spelled_out():
    tokenizer = fit(["cat cat cat dog", "Cat DOG bird"], vocab_size=60, min_frequency=2)
    tokens = tokenizer.tokenize("CAT dog bird")
    assert tokens[:2] == ["cat", "dog"]
    assert len(tokens) > 3
    assert "".join(tokens[2:]).replace("##", "") == "bird"
    assert fit(["cat cat"], vocab_size=60, min_frequency=3).tokenize("cat") == ["c", "##a", "##t"]


def test_a_small_vocabulary_keeps_the_most_frequent_characters():
    tokenizer = fit(["a a a b b c"], vocab_size=7)
    assert set(tokenizer.get_vocab()) == {*SPECIAL_TOKENS.values(), "a", "b"}
    assert tokenizer.tokenize("a b c") == ["a", "b", "[UNK]"]


def test_pieces_inside_a_word_are_no_special_tokens():
    tokenizer = fit()
    pieces = [token for token in tokenizer.get_vocab() if token.startswith("##")]
    assert pieces
    assert not set(pieces) & set(tokenizer.all_special_tokens)
    assert not any(token.content.startswith("##") for token in tokenizer.added_tokens_decoder.values())
    assert tokenizer.tokenize("##a") == tokenizer.tokenize("# # a")
    assert tokenizer.decode(tokenizer("aab abb")["input_ids"], skip_special_tokens=True) == "aab abb"


@pytest.mark.parametrize("texts", [[], [""], [" \n "]], ids=repr)
def test_no_text_gives_the_special_tokens_alone(texts):
    tokenizer = fit(texts)
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(SPECIAL_TOKENS.values())}
    assert tokenizer("hello")["input_ids"] == [2, 1, 3]


def test_scripts_and_emoji_are_read():
    tokenizer = fit()
    for word in ("schones", "прекрасное", "素", "👗"):  # lower case and without accents, as BERT has it
        assert "[UNK]" not in tokenizer.tokenize(word), word
    assert tokenizer.tokenize("SCHÖNES") == tokenizer.tokenize("schones")
    assert tokenizer.tokenize("ᚠ") == ["[UNK]"]


def test_a_pair_is_parted_and_the_longest_text_is_known():
    tokenizer = fit(max_length=12)
    assert tokenizer.model_max_length == 12
    ids = tokenizer("a b", "b")["input_ids"]
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert ids == [2, a, b, 3, b, 3]


def test_it_loads_as_it_was_saved(tmp_path):
    tokenizer = fit()
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert [loaded(text)["input_ids"] for text in TEXTS] == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert loaded.all_special_tokens == tokenizer.all_special_tokens
