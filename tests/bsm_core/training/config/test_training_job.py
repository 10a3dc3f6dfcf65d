from __future__ import annotations

import logging

import huggingface_hub
import numpy as np
import pytest
import torch
from support.artifacts import write_tokenizer
from support.training import BERT, CONFIG, ENCODING, PAIR, save_encoder

from bsm_core.errors import ConfigError, CorruptArtifactError, UnknownModelClassError, UnknownStepError
from bsm_core.plugins.registry import Registry
from bsm_core.scoring.settings import sources
from bsm_core.training.config.training_config import TrainingConfig
from bsm_core.training.config.training_job import TrainingJob

OWN_ENCODERS = {
    **{key: value for key, value in PAIR.items() if key != "text_encoder"},
    **{key: dict(BERT) for key in ("primary_text_encoder", "secondary_text_encoder")},
}
"""Job with an encoder of its own for each text field."""


@pytest.fixture
def job(toy_site):
    def make(values=CONFIG, **changes):
        return TrainingJob({**values, **changes}, Registry.discover())

    return make


@pytest.fixture
def problems(job):
    """The lines of the error that a config gives."""

    def find(values=CONFIG, **changes):
        with pytest.raises(ConfigError) as caught:
            job(values, **changes)
        return list(caught.value.details)

    return find


def test_what_is_wrong_for_the_runner_the_job_and_the_model_class_is_told_at_once(problems):
    found = problems(
        ENCODING,
        max_total_chunks=0,
        text_processing_steps=5,
        label_name=None,
        max_epochs="many",
        monitor="loss",
        batch_size=-1,
        lr="fast",
        text_name=None,
        text_encoder=None,
    )
    assert sorted(line.partition(":")[0] for line in found) == [
        "batch_size",
        "label_name",
        "lr",
        "max_epochs",
        "max_total_chunks",
        "monitor",
        "text_encoder",
        "text_name",
        "text_processing_steps",
    ]


def test_without_a_model_class_the_other_keys_are_told_all_the_same(problems):
    found = problems(model_class=None, max_epochs=0, max_sen_len=0)
    assert {line.partition(":")[0] for line in found} == {"max_epochs", "max_sen_len", "model_class"}


@pytest.mark.parametrize("values", [{"is_binary": "yes", "num_classes": "2"}, {"is_binary": "no", "num_classes": 5}])
def test_is_binary_and_num_classes_may_agree_in_any_spelling(job, values):
    assert job(**values).artifact.is_binary == (values["is_binary"] == "yes")


def test_null_is_the_default(job):
    assert (
        job(max_epochs=None, seed=None).training == job(max_epochs=TrainingConfig(label_name="x").max_epochs).training
    )


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"model_class": "toy_mdel"}, UnknownModelClassError),
        ({"text_processing_steps": ["toy_toks"]}, UnknownStepError),
    ],
    ids=["model class", "step"],
)
def test_names_are_looked_up_before_any_data_is_read(job, values, error):
    with pytest.raises(error, match="did you mean") as caught:
        job(**values)
    assert "config." in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"text_encoder": None}, "text_encoder: missing; give a Hugging Face config, or the folder of a pretrained"),
        ({"text_encoder": "/nowhere"}, "text_encoder: '/nowhere' is not a folder, and no encoder config of this name"),
        ({"text_encoder": "acme/nt"}, "text_encoder: 'acme/nt' is not a folder, and no encoder config of this name is"),
        ({"text_encoder": ["bert"]}, "text_encoder: a list is neither a Hugging Face config nor a folder"),
        ({"text_encoder": "."}, "text_encoder: the folder '.' has no config.json"),
        ({"is_binary": True, "num_classes": 5}, "num_classes: 5 contradicts is_binary = true; set is_binary to false"),
        ({"is_binary": "True", "num_classes": 5}, "num_classes: 5 contradicts is_binary = true"),
        ({"is_binary": 1, "num_classes": "5"}, "num_classes: '5' contradicts is_binary = true"),
        ({"tokenizer": "/nowhere"}, "tokenizer: '/nowhere' is not a folder, and no tokenizer of this name is in the"),
        ({"tokenizer": "."}, "tokenizer: the folder '.' has no tokenizer.json"),
        ({"tokenizer": 3}, "tokenizer: Input should be a valid string"),
        ({"model_class": "toy_embedding", "embedding_mat": "no.npy"}, "embedding_mat: 'no.npy' is not a file"),
        ({"model_class": "toy_embedding", "embedding_mat": [[1.0]]}, "embedding_mat: [[1.0]] is not a file"),
        ({"class_weights": [1.0, 2.0, 3.0]}, "class_weights has 3 values for 2 classes"),
        ({"vocab_size": 5}, "vocab_size: Input should be greater than 5"),
        ({"validation_fraction": 1}, "validation_fraction: "),
        ({"positive_class": "a", "multiclass_categories": ["a", "b"]}, "positive_class: 'a' is not the second of mul"),
        ({"positive_class": 1, "num_classes": 3}, "positive_class: there are 3 classes, and it is the label of"),
        ({"on_missing_label": "drop"}, "on_missing_label: Input should be 'error' or 'skip'"),
        ({"label_name": "chat"}, "label_name: the model would read the label 'chat' as a text field or a feature"),
        ({"tab_field_list": ["label"]}, "label_name: the model would read the label 'label'"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_one_wrong_key_is_one_line(problems, changes, line):
    [found] = problems(ENCODING, **changes)
    assert found.startswith(line)


@pytest.mark.parametrize("weights", ["heavy", [1, "a"], [-1.0, 2.0]], ids=str)
def test_class_weights_that_are_none(problems, weights):
    assert all(line.startswith("class_weights") for line in problems(class_weights=weights))


def test_class_weights_reach_the_model_class_but_for_the_balanced_ones_which_are_fitted(job):
    assert job(class_weights=[1, 3]).model_values({})["class_weights"] == [1, 3]
    balanced = job(class_weights="balanced")
    assert "class_weights" not in balanced.model_values({})
    assert balanced.model_values({"class_weights": [2.0, 0.5]})["class_weights"] == [2.0, 0.5]


# Encoders and tokenizers


def test_an_encoder_is_a_config_or_a_folder_given_as_text_or_as_a_path(job, tmp_path):
    save_encoder(tmp_path / "encoder")
    assert job(ENCODING).values["text_encoder"] == BERT
    as_path = job(ENCODING, text_encoder=tmp_path / "encoder")
    assert as_path.values == job(ENCODING, text_encoder=str(tmp_path / "encoder")).values


def test_prefixed_keys_fall_back_to_those_without_a_prefix(job, tmp_path):
    shared = job(PAIR)
    assert {shared.own_or_shared(f"{prefix}text_encoder") for prefix in ("primary_", "secondary_")} == {"text_encoder"}
    assert shared.own_or_shared("primary_tokenizer") == "tokenizer"
    own = job(PAIR, secondary_text_encoder=dict(BERT), secondary_tokenizer=str(write_tokenizer(tmp_path / "tokenizer")))
    assert own.own_or_shared("secondary_text_encoder") == "secondary_text_encoder"
    assert own.own_or_shared("primary_text_encoder") == "text_encoder"
    assert [own.own_or_shared(f"{prefix}tokenizer") for prefix in ("primary_", "secondary_")] == [
        "tokenizer",
        "secondary_tokenizer",
    ]


def test_a_folder_that_both_fields_fall_back_to_is_missed_once(problems):
    found = problems(PAIR, text_encoder="/nowhere", tokenizer="/nowhere")
    assert [line.partition(" is not a folder")[0] for line in found] == [
        "text_encoder: '/nowhere'",
        "tokenizer: '/nowhere'",
    ]


def test_a_name_in_the_hugging_face_cache_is_as_good_as_a_folder(job, problems, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--acme--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("abc")
    save_encoder(home / "snapshots/abc")
    write_tokenizer(home / "snapshots/abc")
    made = job(ENCODING, text_encoder="acme/tiny", tokenizer="acme/tiny")
    assert made.folder("text_encoder") == made.folder("tokenizer") == home / "snapshots/abc"
    assert len(made.given_tokenizer("tokenizer")) > 5
    assert made.values["text_encoder"] == "acme/tiny"
    (home / "snapshots/abc/model.safetensors").unlink()
    [line] = problems(ENCODING, text_encoder="acme/tiny")
    assert "abc' has no weights" in line
    [line] = problems(ENCODING, text_encoder="acme/other")
    assert line.endswith("run `hf download acme/other` first")


def test_of_what_the_model_class_does_not_want_nothing_is_asked(job):
    assert not job().reads("text_encoder")
    assert job(ENCODING).reads("text_encoder")


# Keys that nobody knows


def test_unknown_keys_are_warned_of_with_the_nearest(job, caplog):
    with caplog.at_level(logging.WARNING, "bsm"):
        job(max_epoch=3, embeding_mat="x", zzz=1, sise=4)
    assert [record.getMessage() for record in caplog.records] == [
        "config key 'embeding_mat' is not read by anything; did you mean 'embedding_mat'?",
        "config key 'max_epoch' is not read by anything; did you mean 'max_epochs'?",
        "config key 'sise' is not read by anything; did you mean 'size'?",
        "config key 'zzz' is not read by anything",
    ]


def test_known_keys_are_those_of_runner_job_model_class_steps_and_settings(job, caplog):
    settings = dict.fromkeys(sources())
    with caplog.at_level(logging.WARNING, "bsm"):
        job(size=5, id_name="id", device="cpu", output_format="csv", risk_smoothing=3)
        job(**settings)
        job(PAIR, size=3, text_encoder=dict(BERT), min_frequency=1, vocab_size=99)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("values", "key", "why"),
    [
        (CONFIG, {"text_encoder": dict(BERT)}, "model class 'toy_model' does not read it"),
        (ENCODING, {"primary_text_encoder": dict(BERT)}, "model class 'toy_encoder' does not read it"),
        (
            OWN_ENCODERS,
            {"text_encoder": dict(BERT)},
            "primary_text_encoder and secondary_text_encoder are read instead",
        ),
        (ENCODING, {"secondary_tokenizer": "later"}, "no text step of its field reads it"),
        (CONFIG, {"vocab_size": 99}, "no tokenizer is fitted"),
        (CONFIG, {"embed_size": 9}, "model class 'toy_model' has no embedding matrix"),
        (CONFIG, {"chunk_truncate": True}, "no text step reads it"),
        (CONFIG | {"cat_field_list": []}, {"risk_min_count": 2}, "no feature is a category"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_key_that_this_job_has_no_use_for_is_named_with_the_reason(job, caplog, values, key, why):
    with caplog.at_level(logging.WARNING, "bsm"):
        job(values, **key)
    [name] = key
    assert [record.getMessage() for record in caplog.records] == [f"config key {name!r} is ignored: {why}"]


# Steps


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"name": "toy_tokens", "sise": 3}], "text step 'toy_tokens' cannot be built; sise: unknown"),
        ([{"name": "toy_encode", "max_sen_len": "x"}], "max_sen_len: Input should be a valid integer"),
        (["toy_encode", "toy_clean"], "'toy_clean' takes text, but 'toy_encode' before it gives tokens"),
        (["toy_clean"], "end with text, the model needs tokens"),
        ([], "column 'chat' has no steps"),
    ],
    ids=["parameter", "value", "order", "end", "none"],
)
def test_steps_are_built_before_any_row_is_read_and_told_with_all_else(problems, steps, words):
    lines = problems(ENCODING, text_processing_steps=steps, max_epochs=0)
    assert [line.partition(":")[0] for line in lines] == ["max_epochs", "text_processing_steps"]
    assert words in lines[1]


def test_steps_get_the_tokenizer_that_the_config_names(job, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptArtifactError, match="cannot be used as a tokenizer"):
        job(ENCODING, tokenizer=str(tmp_path))


# What becomes the artifact's


def test_the_artifacts_config_is_what_was_given_and_chosen_without_what_it_has_in_files(job, tmp_path):
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    values = job(PAIR, primary_tokenizer=str(tokenizer), odd=7, seed=None, class_weights="balanced").artifact_values(
        {"class_weights": [1.0, 2.0], "tokenizer": "tokenizer"}
    )
    assert values["odd"] == 7
    assert values["seed"] == 0
    assert values["batch_size"] == 32
    assert values["class_weights"] == [1.0, 2.0]
    assert values["tokenizer"] == "tokenizer"
    assert not {"primary_tokenizer", "text_encoder", "multiclass_categories"} & values.keys()


@pytest.mark.parametrize(
    "odd",
    [object(), np.datetime64("2020-01-01", "ns"), np.array([b"a"]), torch.ones(2), float("nan"), {1, 2}],
    ids=["object", "date", "bytes", "tensor", "nan", "set"],
)
def test_what_json_cannot_hold_is_refused_before_training(job, odd):
    with pytest.raises(ConfigError, match="JSON cannot hold"):
        job(odd=odd)


# Keys that name columns


def test_columns_that_the_model_class_does_not_read_are_not_asked_for(job, caplog):
    made = job(ENCODING | {"model_class": "toy_embedding"}, tab_field_list=["amount"])
    assert made.artifact.tab_field_list == []
    assert "tab_field_list" not in made.artifact_values({})
    assert "config key 'tab_field_list' is ignored: model class 'toy_embedding' does not read it" in caplog.text


def test_a_list_of_steps_that_belongs_to_no_text_field_is_warned_of(job, caplog):
    job(PAIR, text_processing_steps=["toy_tokens"])
    assert "config key 'text_processing_steps' is not read by anything" in caplog.text
