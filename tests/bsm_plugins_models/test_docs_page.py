"""The page on the model classes, held against the registry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.models import CONFIG

from bsm_core import ModelBase, ModelConfig, Registry

PAGE = (Path(__file__).parents[2] / "docs" / "model-classes.md").read_text()
REGISTRY = Registry.discover(frozenset())
NAMES = [c for c in REGISTRY.components if c.kind == "model_class"]
CLASSES = {c.name: REGISTRY.load(c, ModelBase) for c in NAMES if c.alias_of is None}
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
    assert "```text\n" in SECTIONS[name]
    assert "Choose it " in SECTIONS[name]
    model = CLASSES[name].from_config({**TINY, **OWN.get(name, {})})
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
