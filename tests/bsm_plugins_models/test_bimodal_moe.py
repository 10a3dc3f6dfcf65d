from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, TAB, TEXT, linear, make, make_batch, shapes, wrong_keys

from bsm_plugins_models.bimodal import BimodalMoe

PROJECTIONS = linear("moe_fusion.text_proj", 8, 5) | linear("moe_fusion.tab_proj", 8, 5)


@pytest.mark.parametrize(("given", "size", "projections"), [(5, 5, PROJECTIONS), (None, 8, {}), (8, 8, {})])
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(given, size, projections):
    got = shapes(make(BimodalMoe, fusion_dim=given), "text_subnetwork.bert.")
    router = linear("moe_fusion.router.0", 2 * size, 2)
    assert got == LOSS | TEXT | TAB | projections | router | linear("classifier.1", size, 2)


def test_logits_are_the_classifier_on_routed_text_and_features():
    model, batch = make(BimodalMoe, fusion_dim=5), make_batch(5)
    with torch.inference_mode():
        t = model.moe_fusion.text_proj(model.text_subnetwork(batch.texts["chat"], model.token_budget))
        b = model.moe_fusion.tab_proj(model.tab_subnetwork(batch.features))
        weights = model.moe_fusion.router[0](torch.cat([t, b], 1)).softmax(1)
        want = model.classifier[1]((weights[:, :1] * t + weights[:, 1:] * b).relu())
        assert torch.allclose(model(batch), want, atol=1e-6)


@pytest.mark.parametrize("size", [5, None])
def test_without_features_zeros_stand_for_the_tabular_vector(size):
    model, batch = make(BimodalMoe, tab_field_list=None, fusion_dim=size), make_batch(5, 0)
    assert not any(name.startswith("tab_") for name in model.state_dict())
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        assert torch.equal(model(batch), model.classifier(model.moe_fusion(text, torch.zeros(5, 8))))


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(BimodalMoe, {})) == {"text_name", "hidden_common_dim", "text_encoder"}
    assert set(wrong_keys(BimodalMoe, {**CONFIG, "fusion_dim": "x", "hidden_common_dim": -1})) == {
        "fusion_dim", "hidden_common_dim"
    }  # fmt: skip
