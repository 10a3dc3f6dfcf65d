from __future__ import annotations

import pytest
import torch
from support.models import LOSS, TAB, linear, make, make_batch, shapes, wrong_keys

from bsm_core import Batch, ConfigError
from bsm_plugins_models.tabular import Tabular


def test_the_weights_have_names_like_those_of_the_other_classes():
    assert shapes(make(Tabular)) == LOSS | TAB | linear("final_merge_network.1", 8, 2)


def test_logits_are_the_head_on_the_features():
    model, features = make(Tabular), make_batch(5).features
    norm, layer, _ = model.tab_subnetwork.embedding_layer
    want = model.final_merge_network[1](layer(norm(features)).relu())
    assert torch.equal(model(Batch(5, features=features)), want)


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(Tabular, {})) == {"tab_field_list", "hidden_common_dim"}
    assert wrong_keys(Tabular, {"tab_field_list": [], "hidden_common_dim": 0}) == {
        "tab_field_list": "the model class needs at least one feature (it is [])",
        "hidden_common_dim": "Input should be greater than 0 (it is 0)",
    }


def test_it_takes_no_pretrained_weights():
    with pytest.raises(ConfigError):
        make(Tabular).load_pretrained("text_encoder", {})
