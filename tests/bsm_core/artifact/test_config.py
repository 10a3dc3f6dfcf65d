"""An artifact's config: defaults, aliases, forms of a step list, and every wrong key at once."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from pydantic import BaseModel, Field

from bsm_core import ArtifactConfig
from bsm_core.artifact.config import StepSpec, json_config
from bsm_core.errors import ConfigError
from bsm_core.models.model_config import ModelConfig
from bsm_core.runtime.validation import validated

FULL = ["dialogue_splitter", "html_normalizer", "emoji_remover", "text_normalizer", "dialogue_chunker", "tokenizer"]
MINIMAL = ["dialogue_splitter", "text_normalizer", "dialogue_chunker", "tokenizer"]


def config(**values: object) -> ArtifactConfig:
    return ArtifactConfig.from_mapping({"model_class": "bert", **values}, where="model_artifacts.pth")


def problems(**values: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert caught.value.where == "model_artifacts.pth"
    return caught.value.details


DEFAULTS = {
    "compat": None,
    "text_name": None,
    "primary_text_name": None,
    "secondary_text_name": None,
    "text_processing_steps": [StepSpec(name) for name in FULL],
    "primary_text_processing_steps": [StepSpec(name) for name in FULL],
    "secondary_text_processing_steps": [StepSpec(name) for name in MINIMAL],
    "tab_field_list": [],
    "cat_field_list": [],
    "largest_magnitudes": {},
    "is_binary": True,
    "num_classes": 2,
    "class_names": None,
    "max_sen_len": 512,
    "chunk_trancate": False,
    "max_total_chunks": 5,
    "batch_size": None,
    "tokenizer": None,
    "text_input_ids_key": "input_ids",
    "text_attention_mask_key": "attention_mask",
}


def test_the_defaults_of_the_contract():
    assert config().as_mapping() == {"model_class": "bert", **DEFAULTS}


@pytest.mark.parametrize("key", [*DEFAULTS, "chunk_truncate"])
def test_null_is_the_default(key):
    assert config(**{key: None}) == config()


def test_two_configs_do_not_share_a_default():
    config().tab_field_list.append("x")
    assert config().tab_field_list == []


def test_every_wrong_key_at_once():
    found = problems(
        model_class=3,
        max_sen_len=0,
        num_classes=2.5,
        tab_field_list="age",
        cat_field_list=["a", 1],
        is_binary="maybe",
        text_processing_steps=["tokenizer", 7, {"params": {}}],
        chunk_trancate="x",
    )
    assert sorted(line.split(":")[0] for line in found) == [
        "cat_field_list.1", "chunk_trancate", "is_binary", "max_sen_len", "model_class", "num_classes",
        "tab_field_list", "text_processing_steps.1", "text_processing_steps.2",
    ]  # fmt: skip
    assert "max_sen_len: Input should be greater than 0 (it is 0)" in found
    assert 'text_processing_steps.1: a step is a name, or {"name": ..., <its parameters>} (it is 7)' in found


@pytest.mark.parametrize("value", [True, "12", -1, None])
def test_a_magnitude_is_a_number(value):
    (line,) = problems(largest_magnitudes={"a": value})
    assert line.startswith("largest_magnitudes.a: ")


def test_a_magnitude_can_be_an_integer():
    assert config(largest_magnitudes={"a": 12}).largest_magnitudes == {"a": 12.0}


def test_a_long_value_is_cut_short_and_a_problem_is_said_once():
    (line,) = problems(max_sen_len=list(range(1000)))
    shown = line.partition("(it is ")[2]
    assert shown.startswith("[0, 1, 2,")
    assert shown.endswith("...)")
    assert len(shown) == 81

    class Twice(BaseModel):
        first: int = Field(validation_alias="size")
        second: int = Field(validation_alias="size")

    with pytest.raises(ConfigError, match="1 problem") as caught:
        validated(Twice, {"size": "x"}, where="config")
    assert len(caught.value.details) == 1


@pytest.mark.parametrize("values", [{}, {"model_class": None}])
def test_a_config_without_a_model_class(values):
    with pytest.raises(ConfigError) as caught:
        ArtifactConfig.from_mapping(values, where="x")
    assert str(caught.value) == "1 problem(s) in the config (x)\n  model_class: missing\n  To fix: correct these keys"


@pytest.mark.parametrize("key", ["chunk_trancate", "chunk_truncate"])
def test_both_spellings_of_chunk_trancate(key):
    made = config(**{key: True})
    assert made.chunk_trancate is True
    assert made.as_mapping()["chunk_trancate"] is True
    assert problems(**{key: "x"})[0].startswith(f"{key}: ")


def test_the_spelling_of_existing_artifacts_wins():
    assert config(chunk_trancate=False, chunk_truncate=True).chunk_trancate is False
    assert config(chunk_trancate=True, chunk_truncate=False).chunk_trancate is True


def test_the_forms_of_a_step():
    steps = ["a", {"name": "b"}, {"name": "c", "max_sen_len": 8, "unmarked": "drop"}, StepSpec("d", {"x": 1})]
    assert config(text_processing_steps=steps).text_processing_steps == [
        StepSpec("a"),
        StepSpec("b"),
        StepSpec("c", {"max_sen_len": 8, "unmarked": "drop"}),
        StepSpec("d", {"x": 1}),
    ]


@pytest.mark.parametrize("entry", [3, None, ["a"], {}, {"name": 3}, {"step": "a"}])
def test_what_is_no_step(entry):
    (line,) = problems(text_processing_steps=["a", entry])
    assert line == f'text_processing_steps.1: a step is a name, or {{"name": ..., <its parameters>}} (it is {entry!r})'


def test_unknown_keys_are_kept():
    values = {"lr": 2e-05, "kernel_size": [3, 5], "nothing": None, "text_fields": "mine"}
    made = config(**values)
    assert made.as_mapping()["lr"] == 2e-05
    assert made.as_mapping()["kernel_size"] == [3, 5]
    assert made.as_mapping()["text_fields"] == "mine"
    assert made.text_fields == ()
    assert "nothing" not in made.as_mapping()


def test_a_key_that_is_no_text():
    with pytest.raises(ConfigError, match="Keys should be strings"):
        ArtifactConfig.from_mapping({"model_class": "bert", 3: 4}, where="x")


def test_numpy_scalars_and_text_of_numbers_are_read():
    made = config(num_classes=np.int64(4), is_binary=np.bool_(False), batch_size="16")
    assert (made.num_classes, made.is_binary, made.batch_size) == (4, False, 16)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, []),
        ({"text_name": "chat"}, [("text_name", "chat", FULL)]),
        ({"text_name": ""}, []),
        ({"primary_text_name": "chat"}, [("primary_text_name", "chat", FULL)]),
        (
            {"primary_text_name": "chat", "secondary_text_name": "events", "text_name": "old"},
            [("primary_text_name", "chat", FULL), ("secondary_text_name", "events", MINIMAL)],
        ),
        ({"text_name": "chat", "secondary_text_name": "events"}, [("text_name", "chat", FULL)]),
        ({"text_name": "chat", "text_processing_steps": ["a"]}, [("text_name", "chat", ["a"])]),
    ],
)
def test_the_text_fields(values, fields):
    made = config(**values).text_fields
    assert [(f.key, f.column, [step.name for step in f.steps]) for f in made] == fields
    assert all(f.steps_key == f.key.replace("_name", "_processing_steps") for f in made)


def test_two_text_fields_of_one_column():
    assert problems(primary_text_name="chat", secondary_text_name="chat") == (
        "primary_text_name and secondary_text_name are both 'chat'",
    )


TRUE = [True, 1, 1.0, "1", "true", "True", "TRUE", "yes", "Yes", "y", "on", "ON", "t", b"true", np.bool_(True)]


@pytest.mark.parametrize("value", TRUE, ids=repr)
def test_binary_in_any_spelling_is_two_classes(value):
    made = config(is_binary=value, num_classes=3)
    assert (made.is_binary, made.num_classes) == (True, 2)
    made = ModelConfig.model_validate({"is_binary": value, "num_classes": 3})
    assert (made.is_binary, made.num_classes) == (True, 2)


@pytest.mark.parametrize(
    "value", [False, 0, 0.0, "0", "false", "False", "no", "N", "off", "f", np.bool_(False)], ids=repr
)
def test_not_binary_in_any_spelling_leaves_the_number_of_classes(value):
    made = config(is_binary=value, num_classes=3)
    assert (made.is_binary, made.num_classes) == (False, 3)


def test_binary_with_more_classes():
    assert config(is_binary=True, num_classes=5).num_classes == 2
    assert config(is_binary=True, num_classes=1).num_classes == 2
    assert config(is_binary=False, num_classes=5).num_classes == 5


def test_a_config_does_not_change_and_pickles():
    made = config(text_name="chat", text_processing_steps=[{"name": "a", "n": 1}], lr=0.1)
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(ValueError, match="frozen"):
        made.max_sen_len = 3


def test_a_config_is_plain_json():
    text = '{"model_class": "bert", "text_processing_steps": ["a", {"name": "b", "n": [1]}], "batch_size": null}'
    made = ArtifactConfig.from_mapping(json.loads(text), where="hyperparameters.json")
    assert made.text_processing_steps == [StepSpec("a"), StepSpec("b", {"n": [1]})]
    assert made.batch_size is None


@pytest.mark.parametrize(
    ("key", "count"),
    [("text_processing_steps", 101), ("secondary_text_processing_steps", 101), ("tab_field_list", 50_001)],
)
def test_very_long_lists_are_refused(key, count):
    [problem] = problems(**{key: ["x"] * count})
    assert key in problem


# The names of the classes

NAMES = {"class_names": ["no", "yes"]}
BY_ID = {"id2label": {"0": "bad", 1: "good"}}
LABELS = {"multiclass_categories": [3, 7]}


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ({}, [0, 1]),
        ({"num_classes": 3}, [0, 1, 2]),
        (NAMES, ["no", "yes"]),
        (BY_ID, ["bad", "good"]),
        (LABELS, [3, 7]),
        (NAMES | BY_ID | LABELS, ["no", "yes"]),
        (BY_ID | LABELS, ["bad", "good"]),
        ({"multiclass_categories": ["a", 1]}, ["a", "1"]),
        ({"multiclass_categories": [0.5, True]}, ["0.5", "True"]),
    ],
)
def test_the_names_of_the_classes(values, classes):
    assert config(**values).classes == classes


@pytest.mark.parametrize(
    "values",
    [
        {"id2label": {"0": "a"}},
        {"id2label": {"0": "a", "1": None}},
        {"id2label": {"0": "a", "1": "a"}},
        {"id2label": ["a", "b"]},
        {"id2label": {"0": "\ud800", "1": "b"}},
        {"multiclass_categories": "ab"},
        {"multiclass_categories": [1, 2, 3]},
        {"multiclass_categories": [1, 10**5000]},
        {"multiclass_categories": [[1], [2]]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_names_of_others_that_cannot_be_used_are_ignored(values):
    assert config(**values).classes == [0, 1]


@pytest.mark.parametrize(
    "names", [["a"], ["a", "a"], ["a", ""], ["a", "\ud800"], [1, 2], "ab", ["a", "b", "c"]], ids=repr
)
def test_class_names_must_name_each_class(names):
    with pytest.raises(ConfigError, match="class_names"):
        config(class_names=names)


def test_numbers_and_arrays_of_numpy_are_those_of_json():
    values = {"a": np.int64(2), "b": np.float32(0.5), "c": np.bool_(True), "d": np.arange(2), "e": (np.int8(1),)}
    assert json_config(values, where="config") == {"a": 2, "b": 0.5, "c": True, "d": [0, 1], "e": [1]}


@pytest.mark.parametrize("value", [np.float32("nan"), np.array([np.inf]), b"bytes", {1}, np.array([object()])])
def test_a_value_that_json_cannot_hold_is_an_error(value):
    with pytest.raises(ConfigError, match="config has a value that JSON cannot hold"):
        json_config({"a": value}, where="config")
