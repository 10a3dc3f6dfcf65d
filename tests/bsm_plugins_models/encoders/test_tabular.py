from __future__ import annotations

import torch

from bsm_plugins_models.encoders.tabular import TabularConfig, TabularEncoder


def test_layer_norm_linear_relu():
    torch.manual_seed(0)
    encoder = TabularEncoder(3, 5)
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
    assert TabularEncoder(3, 5).bfloat16()(torch.randn(4, 3)).dtype == torch.bfloat16
