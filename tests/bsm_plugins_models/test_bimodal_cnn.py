from __future__ import annotations

import torch
from support.models import CONFIG, LOSS, TAB, linear, make, make_batch, shapes, wrong_keys

from bsm_plugins_models.bimodal import BimodalCnn


def convolution(name, inputs, outputs, kernel):
    return {f"{name}.weight": (outputs, inputs, kernel), f"{name}.bias": (outputs,)}


def test_the_weights_have_the_names_and_shapes_of_the_artifacts():
    model = make(BimodalCnn, kernel_size=[1, 2, 2], num_layers=3, num_channels=[3, 4, 5])
    cnn = {"text_subnetwork.embeddings.weight": (64, 12)}
    for i, kernel in enumerate([1, 2, 2]):
        for layer, (inputs, outputs) in enumerate([(12, 3), (3, 4), (4, 5)]):
            cnn |= convolution(f"text_subnetwork.convs.{i}.{3 * layer}", inputs, outputs, kernel)
    cnn |= linear("text_subnetwork.network.1", 15, 8)
    assert shapes(model) == LOSS | TAB | cnn | linear("final_merge_network.1", 16, 2)


def test_logits_are_the_head_on_text_beside_features():
    model, batch = make(BimodalCnn), make_batch(5)
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        tab = model.tab_subnetwork(batch.features)
        assert torch.equal(model(batch), model.final_merge_network[1](torch.cat([text, tab], 1).relu()))


def test_without_features_there_is_no_tabular_part():
    model = make(BimodalCnn, tab_field_list=None)
    assert model.tab_subnetwork is None
    assert model.final_merge_network[1].in_features == 8


def test_an_artifact_may_hold_the_text_parts_own_loss():
    assert {"text_subnetwork.class_weights_tensor", "text_subnetwork.loss_op.weight"} < set(BimodalCnn.optional_state)


def test_a_frozen_embedding_does_not_learn():
    model = make(BimodalCnn, is_embeddings_trainable=False).train()
    model.training_step(make_batch(3)).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == [
        "text_subnetwork.embeddings.weight"
    ]


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(BimodalCnn, {"max_sen_len": 64})) == {"text_name", "hidden_common_dim", "embedding_shape"}
    wrong = {**CONFIG, "tab_field_list": [1], "num_channels": [5], "kernel_size": [9], "dropout_keep": 0}
    assert set(wrong_keys(BimodalCnn, wrong)) == {"tab_field_list.0", "num_channels", "kernel_size", "dropout_keep"}


def test_the_embedding_starts_from_a_matrix():
    model = make(BimodalCnn)
    model.load_pretrained("embedding_mat", {"weight": torch.ones(64, 12)})
    assert (model.text_subnetwork.embeddings.weight == 1).all()
