from __future__ import annotations

import pytest
import torch
from support.bert import ENCODER, make_batch

from bsm_core.errors import ConfigError
from bsm_plugins_models.bimodal import BimodalBert

CONFIG = {
    "text_name": "chat",
    "tab_field_list": ["a", "b", "c"],
    "hidden_common_dim": 6,
    "max_sen_len": 8,
    "batch_size": 4,
    "text_encoder": ENCODER,
}


def make(**values):
    torch.manual_seed(0)
    return BimodalBert.from_config({**CONFIG, **values}).eval()


def test_the_weights_have_the_names_and_shapes_of_the_artifacts():
    shapes = {name: tuple(value.shape) for name, value in make().state_dict().items() if "encoder.layer" not in name}
    assert shapes == {
        "class_weights_tensor": (2,),
        "loss_op.weight": (2,),
        "text_subnetwork.bert.embeddings.word_embeddings.weight": (50, 12),
        "text_subnetwork.bert.embeddings.position_embeddings.weight": (16, 12),
        "text_subnetwork.bert.embeddings.token_type_embeddings.weight": (2, 12),
        "text_subnetwork.bert.embeddings.LayerNorm.weight": (12,),
        "text_subnetwork.bert.embeddings.LayerNorm.bias": (12,),
        "text_subnetwork.bert.pooler.dense.weight": (12, 12),
        "text_subnetwork.bert.pooler.dense.bias": (12,),
        "text_subnetwork.head_layer.1.weight": (6, 12),
        "text_subnetwork.head_layer.1.bias": (6,),
        "tab_subnetwork.embedding_layer.0.weight": (3,),
        "tab_subnetwork.embedding_layer.0.bias": (3,),
        "tab_subnetwork.embedding_layer.1.weight": (6, 3),
        "tab_subnetwork.embedding_layer.1.bias": (6,),
        "final_merge_network.1.weight": (2, 12),
        "final_merge_network.1.bias": (2,),
    }


def test_logits_are_the_head_on_text_beside_features():
    model, batch = make(), make_batch(5, 3)
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        tab = model.tab_subnetwork(batch.features)
        want = model.final_merge_network[1](torch.relu(torch.cat([text, tab], 1)))
        assert torch.equal(model(batch), want)


@pytest.mark.parametrize("features", [[], None])
def test_without_features_there_is_no_tabular_part(features):
    model = make(tab_field_list=features)
    assert not any(name.startswith("tab_") for name in model.state_dict())
    assert model.final_merge_network[1].in_features == 6
    assert model.predict_step(make_batch(3)).shape == (3, 2)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_of_any_number_of_rows_sum_to_one(rows, classes):
    with torch.inference_mode():
        got = make(num_classes=classes).predict_step(make_batch(rows, 3))
    assert got.shape == (rows, classes)
    assert torch.allclose(got.sum(1), torch.ones(rows, dtype=torch.float64))


def test_a_row_does_not_depend_on_its_neighbours_or_the_budget():
    model, together = make(), make_batch(9, 3)
    with torch.inference_mode():
        want = model.predict_step(together)
        fewer = model.predict_step(make_batch(4, 3))
        model.token_budget.tokens = 1
        alone = model.predict_step(together)
    assert (want[:4] - fewer).abs().max() < 1e-6
    assert (want - alone).abs().max() < 1e-6


def test_every_parameter_learns():
    model = make(class_weights=[1.0, 2.0]).train()
    model.training_step(make_batch(7, 3), 0).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_state_dict_comes_back():
    model, other = make(), make()
    torch.nn.init.ones_(other.final_merge_network[1].weight)
    other.load_state_dict(model.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(model(make_batch(3, 3)), other(make_batch(3, 3)))


def test_all_missing_and_wrong_keys_are_named():
    with pytest.raises(ConfigError) as caught:
        BimodalBert.from_config({"tab_field_list": "a", "hidden_common_dim": 0, "text_encoder": {"model_type": "x"}})
    named = {detail.split(":")[0] for detail in caught.value.details}
    assert named == {"text_name", "tab_field_list", "hidden_common_dim", "text_encoder"}


def test_chunks_longer_than_the_encoder_has_positions_for_are_refused():
    with pytest.raises(ConfigError, match="max_sen_len is 17, the encoder has positions for 16 tokens"):
        make(max_sen_len=17)
    assert make(max_sen_len=16).config.max_sen_len == 16
