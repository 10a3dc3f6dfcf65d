from __future__ import annotations

import pytest
import torch

from bsm_core import ConfigError
from bsm_plugins_models.pretrained import load_weights


@pytest.fixture
def part():
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "b": torch.nn.Linear(3, 1)})


def ones(part):
    return {name: torch.ones_like(value) for name, value in part.state_dict().items()}


def test_every_weight_is_loaded(part):
    load_weights(part, ones(part), key="text_encoder")
    assert all((value == 1).all() for value in part.state_dict().values())


def test_what_is_fresh_is_neither_loaded_nor_missed(part):
    before, state = part["b"].weight.clone(), ones(part)
    load_weights(part, state, key="text_encoder", fresh=["b."])
    del state["b.bias"]
    load_weights(part, state, key="text_encoder", fresh=["b."])
    assert torch.equal(part["b"].weight, before)
    assert (part["a"].weight == 1).all()


def test_nothing_is_loaded_where_anything_does_not_fit(part):
    before, state = part["a"].weight.clone(), ones(part)
    state["b.weight"] = torch.ones(3)
    state["c"] = state.pop("b.bias")
    with pytest.raises(ConfigError, match=r"do not fit the model in 3 place\(s\) \(config.text_encoder\)") as caught:
        load_weights(part, state, key="text_encoder")
    assert caught.value.details == (
        "missing: b.bias [1]",
        "unexpected: c",
        "shape: b.weight is [3], the model has [1, 3]",
    )
    assert torch.equal(part["a"].weight, before)


def test_positions_that_older_transformers_saved_do_not_count(part):
    load_weights(part, {**ones(part), "embeddings.position_ids": torch.ones(1)}, key="text_encoder")
