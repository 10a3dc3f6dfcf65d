from __future__ import annotations

import torch

from bsm_plugins_models.encoders.tabular import TabularConfig, TabularEncoder

CONFIG = TabularConfig(hidden_common_dim=5, tab_field_list=("a", "b", "c"))


def test_layer_norm_linear_relu():
    torch.manual_seed(0)
    encoder = TabularEncoder(CONFIG)
    features = torch.randn(4, 3)
    norm, linear, _ = encoder.embedding_layer
    want = torch.relu(linear(torch.nn.functional.layer_norm(features, (3,), norm.weight, norm.bias)))
    assert torch.equal(encoder(features), want)
    assert (encoder(features) == 0).any()
    assert set(encoder.state_dict()) == {f"embedding_layer.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")}


def test_no_features_no_encoder():
    assert TabularEncoder.from_config(TabularConfig(hidden_common_dim=5)) is None
    encoder = TabularEncoder.from_config(TabularConfig(hidden_common_dim=5, tab_field_list=("a", "b")))
    assert encoder.embedding_layer[1].weight.shape == (5, 2)


def test_features_come_in_the_precision_of_the_weights():
    assert TabularEncoder(CONFIG).bfloat16()(torch.randn(4, 3)).dtype == torch.bfloat16


def test_without_the_norm_the_linear_keeps_its_name_and_a_single_feature_its_meaning():
    config = TabularConfig(hidden_common_dim=5, tab_field_list=("a",), feature_norm="none")
    encoder, values = TabularEncoder(config), torch.randn(8, 1)
    assert set(encoder.state_dict()) == {"embedding_layer.1.weight", "embedding_layer.1.bias"}
    assert torch.equal(encoder(values), torch.relu(encoder.embedding_layer[1](values)))
    assert len(encoder(values).unique(dim=0)) > 1


def test_one_feature_may_have_several_columns():
    config = TabularConfig(hidden_common_dim=5, tab_field_list=("a", "b"), feature_count=7)
    assert TabularEncoder(config)(torch.randn(2, 7)).shape == (2, 5)
