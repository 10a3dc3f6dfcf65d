from __future__ import annotations

import torch
from support.models import CONFIG, LOSS, linear, make, make_batch, shapes, wrong_keys

from bsm_plugins_models.text import TextCnn

CNN = {
    "text_subnetwork.embeddings.weight": (64, 12),
    "text_subnetwork.convs.0.0.weight": (5, 12, 2),
    "text_subnetwork.convs.0.0.bias": (5,),
    "text_subnetwork.convs.0.3.weight": (6, 5, 2),
    "text_subnetwork.convs.0.3.bias": (6,),
    "text_subnetwork.convs.1.0.weight": (5, 12, 3),
    "text_subnetwork.convs.1.0.bias": (5,),
    "text_subnetwork.convs.1.3.weight": (6, 5, 3),
    "text_subnetwork.convs.1.3.bias": (6,),
    **linear("text_subnetwork.network.1", 12, 8),
}


def test_the_weights_have_names_like_those_of_bimodal_cnn():
    assert shapes(make(TextCnn)) == LOSS | CNN | linear("final_merge_network.1", 8, 2)


def test_logits_are_the_head_on_the_text_vector():
    model, batch = make(TextCnn), make_batch(5)
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        assert torch.equal(model(batch), model.final_merge_network[1](text.relu()))


def test_an_artifact_may_hold_the_text_parts_own_loss():
    assert {"text_subnetwork.class_weights_tensor", "text_subnetwork.loss_op.weight"} < set(TextCnn.optional_state)


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(TextCnn, {"max_sen_len": 64})) == {"text_name", "hidden_common_dim", "embedding_shape"}
    wrong = {**CONFIG, "text_name": None, "num_channels": [5], "kernel_size": [17]}
    assert set(wrong_keys(TextCnn, wrong)) == {"text_name", "num_channels", "kernel_size"}


def test_the_embedding_starts_from_a_matrix():
    model = make(TextCnn)
    model.load_pretrained("embedding_mat", {"weight": torch.ones(64, 12)})
    assert (model.text_subnetwork.embeddings.weight == 1).all()
