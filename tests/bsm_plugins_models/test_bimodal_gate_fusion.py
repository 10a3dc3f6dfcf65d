from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, TAB, TEXT, linear, make, make_batch, norm, shapes, wrong_keys

from bsm_plugins_models.bimodal import BimodalGateFusion


@pytest.mark.parametrize(("given", "size"), [(5, 5), (None, 8)])
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(given, size):
    gate = (
        linear("gate_fusion.text_proj", 8, size)
        | linear("gate_fusion.tab_proj", 8, size)
        | linear("gate_fusion.gate_net.0", 2 * size, size)
        | norm("gate_fusion.gate_net.1", size)
    )
    got = shapes(make(BimodalGateFusion, fusion_dim=given), "text_subnetwork.bert.")
    assert got == LOSS | TEXT | TAB | gate | linear("final_merge_network.1", size, 2)


def test_logits_are_the_head_on_gated_text_and_features():
    model, batch = make(BimodalGateFusion), make_batch(5)
    with torch.inference_mode():
        t = model.gate_fusion.text_proj(model.text_subnetwork(batch.texts["chat"], model.token_budget))
        b = model.gate_fusion.tab_proj(model.tab_subnetwork(batch.features))
        layer, layer_norm, _ = model.gate_fusion.gate_net
        gate = layer_norm(layer(torch.cat([t, b], 1))).sigmoid()
        want = model.final_merge_network[1]((gate * t + (1 - gate) * b).relu())
        assert torch.allclose(model(batch), want, atol=1e-6)


def test_without_features_zeros_stand_for_the_tabular_vector():
    model, batch = make(BimodalGateFusion, tab_field_list=[]), make_batch(5, 0)
    assert model.tab_subnetwork is None
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        want = model.final_merge_network(model.gate_fusion(text, torch.zeros(5, 8)))
        assert torch.equal(model(batch), want)


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(BimodalGateFusion, {})) == {"text_name", "hidden_common_dim", "text_encoder"}
    assert set(wrong_keys(BimodalGateFusion, {**CONFIG, "fusion_dim": 0, "text_name": None})) == {
        "fusion_dim", "text_name"
    }  # fmt: skip
