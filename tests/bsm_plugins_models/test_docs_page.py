"""The page on the model classes, held against the registry."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from draw_pictures import pictures
from support.models import CONFIG
from torch import nn

from bsm_core import ModelBase, ModelConfig, Registry

PAGE = (Path(__file__).parents[2] / "docs" / "model-classes.md").read_text()
REGISTRY = Registry.discover(frozenset())
NAMES = [c for c in REGISTRY.components if c.kind == "model_class"]
CLASSES = {c.name: REGISTRY.load(c, ModelBase) for c in NAMES if c.alias_of is None}
PICTURES = {picture.name.removeprefix("model-"): picture for picture in pictures() if picture.name.startswith("model-")}
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)}

TINY = {
    **CONFIG,
    "text_encoder": {
        "model_type": "bert",
        "vocab_size": 2000,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
    },
    "embedding_shape": [2000, 64],
    "tab_field_list": list("abcdefg"),
    "hidden_common_dim": 32,
    "max_sen_len": 64,
    "kernel_size": [3, 5, 7],
    "num_channels": [20, 24],
}
"""The model whose parameters the page counts."""
OWN = {
    "bimodal_gate_fusion": {"fusion_dim": 24},
    "bimodal_moe": {"fusion_dim": 24},
    "trimodal_cross_attn": {"fusion_hidden_dim": 40},
}


SIZES = {"E": 64, "H": 32, "C": 2, "F": 7, "K": 3 * 24, "T": 96}
"""The letters of the page, but for D, which each class has of its own."""
FUSED = {"trimodal_bert": 128, "trimodal_gate_fusion": 32, "trimodal_cross_attn": 40}


@cache
def tiny(name):
    return CLASSES[name].from_config({**TINY, **OWN.get(name, {})})


def rows(text, *head):
    """The cells of all tables with these heads."""
    tables = re.findall(rf"^\| {re.escape(' | '.join(head))} \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row[1:-1].split("|")] for table in tables for row in table.splitlines()]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_classes_and_their_other_names():
    expected = {name: set() for name in CLASSES}
    for component in NAMES:
        if component.alias_of is not None:
            expected[component.alias_of].add(component.name)
    table = rows(PAGE, "class", "also called", "reads", "choose it")
    assert {names(cells[0])[0]: set(names(cells[1])) for cells in table} == expected
    assert len(table) == len(expected)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_class_has_a_section_with_a_picture_and_its_size(name):
    assert f"](images/model-{name}.svg)\n" in SECTIONS[name]
    assert "Choose it " in SECTIONS[name]
    model = tiny(name)
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in SECTIONS[name]


def test_every_key_of_every_class_and_no_other():
    listed = {key for cells in rows(PAGE, "key", "default", "meaning") for key in names(cells[0])}
    own = {key for model_class in CLASSES.values() for key in model_class.Config.model_fields}
    assert listed == own - set(ModelConfig.model_fields)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_defaults_of_a_classs_own_keys(name):
    fields = CLASSES[name].Config.model_fields
    for cell, default, _ in rows(SECTIONS[name], "key", "default", "meaning"):
        for key in names(cell):
            value = fields[key].default
            if value not in (None, ()):  # else it depends on other keys, which the page says in words
                assert default == (", ".join(map(str, value)) if isinstance(value, tuple) else str(value)), key


def test_every_class_has_a_picture():
    assert set(PICTURES) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_boxes_of_a_picture_stand_for_all_weights(name):
    """Each box names its module, and no weights are outside of these modules."""
    modules = [box.module for box in PICTURES[name].boxes if box.module]
    for weight, _ in tiny(name).named_parameters():
        assert weight.startswith((*[f"{module}." for module in modules], *PICTURES[name].unsized)), weight
    assert all(tiny(name).get_submodule(module) for module in modules)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_sizes_in_a_picture_are_those_of_the_layers(name):
    """Every Linear is in the picture, as ``[a→b]``, but for those of encoders, of attention and of what is unsized."""
    sizes = {**SIZES, "D": FUSED.get(name, 24)}

    def number(text):
        factor, letter = re.fullmatch(r"(\d*)([A-Z]?)", text).groups()
        return int(factor or 1) * sizes.get(letter, 1)

    shown = [
        tuple(map(number, size.split("→")))
        for box in PICTURES[name].boxes
        for line in box.lines
        for size in re.findall(r"\[([^]]*→[^]]*)\]", line)
    ]
    left_out = ("bert.embeddings.", "bert.encoder.", "bert.pooler.", *(f".{path}" for path in PICTURES[name].unsized))
    layers = [
        (layer.in_features, layer.out_features)
        for path, layer in tiny(name).named_modules()
        if type(layer) is nn.Linear and not any(part in f".{path}." for part in left_out)
    ]
    assert sorted(shown) == sorted(layers)
