from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.artifacts import write_tokenizer
from support.training import BERT, ENCODING, PAIR, labelled_rows, save_encoder

from bsm_core.errors import ConfigError, CorruptArtifactError
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.text_assets import TextAssets, _strings

EMBEDDING = {key: value for key, value in ENCODING.items() if key != "text_encoder"} | {"model_class": "toy_embedding"}


@pytest.fixture
def prepare(toy_site):
    def parts(values=ENCODING, rows=None, **changes):
        frame = labelled_rows() if rows is None else rows
        job = TrainingJob({**values, **changes}, Registry.discover())
        return TextAssets(job, {name: frame[name].tolist() for name in frame})

    return parts


def tokens(parts, prefix=""):
    return set(parts.tokenizers[prefix].get_vocab())


# Tokenizers


def test_a_fitted_tokenizer_knows_what_the_steps_before_it_leave(prepare):
    known = tokens(prepare())
    assert {"good", "fine", "day", "n6"} <= known
    assert not {"<", "/", "|"} & known  # of "<b>", which toy_clean drops, and of "|", where toy_split parts
    raw = tokens(prepare(text_processing_steps=["toy_encode"]))
    assert {"<", "/", "|"} <= raw


@pytest.mark.parametrize(("vocab_size", "min_frequency"), [(25, 1), (60, 1), (60, 11)])
def test_the_config_says_how_many_tokens_there_are(prepare, vocab_size, min_frequency):
    parts = prepare(vocab_size=vocab_size, min_frequency=min_frequency)
    assert len(parts.tokenizers[""]) <= vocab_size
    assert ("bad" in tokens(parts)) == (min_frequency == 11 or vocab_size == 60)  # it occurs 14 times
    assert ("n6" in tokens(parts)) == (min_frequency == 1 and vocab_size == 60)  # 5 times
    assert parts.tokenizers[""].model_max_length == ENCODING["max_sen_len"]


def test_missing_and_unreadable_texts_are_empty(prepare):
    rows = labelled_rows().astype(object)
    rows.loc[0, "chat"], rows.loc[1, "chat"] = None, b"\xff"
    assert tokens(prepare(rows=rows)) == tokens(prepare(rows=labelled_rows()[2:]))


@pytest.mark.parametrize(
    "value",
    ["a b", ["a b"], [["a b"]], [{"role": "bot", "content": "a b"}]],
    ids=["text", "messages", "nested", "roles"],
)
def test_whatever_kind_the_steps_give_its_texts_are_learnt_from(value):
    assert list(_strings(value)) == ["a b"]


def test_two_fields_share_one_tokenizer_fitted_on_both(prepare):
    parts = prepare(PAIR, vocab_size=120)
    assert list(parts.tokenizers) == [""]
    assert {"poor", "thing"} <= tokens(parts)
    assert parts.config() == {"tokenizer": "tokenizer", "vocab_size": len(parts.tokenizers[""])}


def test_a_folder_of_one_field_leaves_the_other_its_own(prepare, tmp_path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    parts = prepare(PAIR, secondary_tokenizer=str(folder))
    assert set(parts.tokenizers) == {"", "secondary_"}
    assert "thing" not in tokens(parts)
    assert tokens(parts, "secondary_") == set(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert parts.config() == {
        "tokenizer": "tokenizer",
        "vocab_size": len(parts.tokenizers[""]),
        "secondary_tokenizer": "secondary_tokenizer",
        "secondary_vocab_size": len(parts.tokenizers["secondary_"]),
    }
    encoders = parts.encoders
    assert encoders["primary_text_encoder"]["vocab_size"] == len(parts.tokenizers[""])
    assert encoders["secondary_text_encoder"]["vocab_size"] == len(parts.tokenizers["secondary_"])


def test_a_tokenizer_that_is_none(prepare, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptArtifactError, match="cannot be used as a tokenizer"):
        prepare(tokenizer=str(tmp_path))


def test_without_a_step_that_wants_one_there_is_no_tokenizer(prepare):
    parts = prepare({**EMBEDDING, "model_class": "toy_model", "text_processing_steps": ["toy_tokens"]})
    assert (parts.tokenizers, parts.encoders, parts.embedding, parts.config()) == ({}, {}, None, {})
    with pytest.raises(ConfigError, match="no text step uses a tokenizer"):
        prepare(text_processing_steps=["toy_tokens"])


# Encoders


def test_a_fresh_encoder_is_as_large_as_its_tokenizer(prepare):
    parts = prepare()
    assert parts.encoders == {
        "text_encoder": {**BERT, "vocab_size": len(parts.tokenizers[""]), "pad_token_id": 0},
    }
    assert parts.pretrained == {}
    assert prepare(text_encoder={**BERT, "vocab_size": 500}).encoders["text_encoder"]["vocab_size"] == 500


def test_padding_is_that_of_the_tokenizer(prepare, tmp_path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert prepare(tokenizer=str(folder)).encoders["text_encoder"]["pad_token_id"] == 3


def test_a_pretrained_encoder_brings_its_config_and_its_weights(prepare, tmp_path):
    encoder = save_encoder(tmp_path / "encoder")
    parts = prepare(text_encoder=str(tmp_path / "encoder"))
    assert parts.encoders["text_encoder"]["hidden_size"] == BERT["hidden_size"]
    state = parts.pretrained["text_encoder"]
    assert state.keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


def test_a_pretrained_encoder_in_half_precision_is_trained_in_float32(prepare, tmp_path):
    encoder = save_encoder(tmp_path / "encoder")
    encoder.half().save_pretrained(tmp_path / "encoder")
    state = prepare(text_encoder=str(tmp_path / "encoder")).pretrained["text_encoder"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("given", ["config", "folder"])
def test_a_vocabulary_too_small_for_the_tokenizer_is_an_error(prepare, tmp_path, given):
    save_encoder(tmp_path / "encoder", vocab_size=10)
    encoder = {**BERT, "vocab_size": 10} if given == "config" else str(tmp_path / "encoder")
    with pytest.raises(
        ConfigError, match="the vocabulary of the encoder has 10 tokens, that of the tokenizer has"
    ) as caught:
        prepare(text_encoder=encoder)
    assert caught.value.where == "config.text_encoder"


def test_weights_that_are_none_name_the_folder(prepare, tmp_path):
    save_encoder(tmp_path / "encoder")
    (tmp_path / "encoder/model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="the pretrained encoder cannot be loaded: ") as caught:
        prepare(text_encoder=str(tmp_path / "encoder"))
    assert str(tmp_path / "encoder") in caught.value.where


# Embeddings


def test_fresh_embeddings_tell_their_shape_alone(prepare):
    parts = prepare(EMBEDDING, embed_size=3)
    assert parts.provided() == {"embedding_shape": [len(parts.tokenizers[""]), 3]}
    assert not parts.embedding.any()
    assert parts.pretrained == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_embedding_matrix_of_a_file_is_where_training_starts(prepare, tmp_path, dtype):
    matrix = np.random.default_rng(0).normal(size=(70, 5)).astype(dtype)
    np.save(tmp_path / "m.npy", matrix)
    parts = prepare(EMBEDDING, embedding_mat=str(tmp_path / "m.npy"))
    assert parts.provided() == {"embedding_shape": [70, 5]}
    assert parts.embedding.dtype == torch.float32
    assert torch.equal(parts.embedding, torch.from_numpy(matrix.astype(np.float32)))
    assert torch.equal(parts.pretrained["embedding_mat"]["weight"], parts.embedding)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda path: np.save(path, np.zeros((10, 5))), r"float64 \[10, 5\], not float \["),
        (lambda path: np.save(path, np.zeros(70)), r"float64 \[70\]"),
        (lambda path: np.save(path, np.zeros((70, 5), int)), r"int64 \[70, 5\]"),
        (lambda path: np.save(path, np.array([{}] * 70)), "cannot be read"),
        (lambda path: path.write_bytes(b"none"), "cannot be read"),
        (lambda path: np.savez(path.open("wb"), a=np.zeros((70, 5))), "cannot be read"),
    ],
    ids=["too few rows", "a vector", "integers", "objects", "no array", "an archive"],
)
def test_a_file_that_is_no_embedding_matrix(prepare, tmp_path, save, words):
    path = tmp_path / "m.npy"
    save(path)
    with pytest.raises(ConfigError, match=words) as caught:
        prepare(EMBEDDING, embedding_mat=str(path))
    assert caught.value.where == f"config.embedding_mat: {path}"
