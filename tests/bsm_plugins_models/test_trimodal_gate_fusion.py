from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, TAB, linear, make, make_batch, norm, shapes, wrong_keys

from bsm_plugins_models.trimodal import TrimodalGateFusion

ENCODERS = ("primary_text_subnetwork.bert.", "secondary_text_subnetwork.bert.")
SIZES = {"primary_hidden_common_dim": 6, "secondary_hidden_common_dim": 10}
TEXTS = linear("primary_text_subnetwork.head_layer.1", 12, 6) | linear("secondary_text_subnetwork.head_layer.1", 12, 10)


def gate(name, inputs, outputs):
    return linear(f"gate_fusion.{name}.0", inputs, outputs) | norm(f"gate_fusion.{name}.1", outputs)


def texts_alone(size):
    projections = linear("gate_fusion.primary_proj", 6, size) | linear("gate_fusion.secondary_proj", 10, size)
    return projections | gate("gate_primary_secondary", 2 * size, size)


@pytest.mark.parametrize(("given", "size"), [(5, 5), (None, 10)])
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(given, size):
    got = shapes(make(TrimodalGateFusion, fusion_dim=given, **SIZES), *ENCODERS)
    tab = linear("gate_fusion.tab_proj", 8, size) | gate("gate_text_tab", 2 * size, size)
    tab |= gate("trimodal_gate", 3 * size, 3 * size)
    assert got == LOSS | TEXTS | TAB | texts_alone(size) | tab | linear("final_merge_network.2", size, 2)


def test_without_features_the_gate_is_between_the_texts():
    got = shapes(make(TrimodalGateFusion, fusion_dim=5, tab_field_list=None, **SIZES), *ENCODERS)
    assert got == LOSS | TEXTS | texts_alone(5) | linear("final_merge_network.2", 5, 2)


@pytest.mark.parametrize("features", [3, 0])
def test_logits_are_the_head_on_the_gated_sum(features):
    model = make(TrimodalGateFusion, tab_field_list=["a", "b", "c"][:features], **SIZES)
    batch = make_batch(5, features)
    with torch.inference_mode():
        primary = model.primary_text_subnetwork(batch.texts["chat"], model.token_budget)
        secondary = model.secondary_text_subnetwork(batch.texts["notes"], model.token_budget)
        tab = model.tab_subnetwork(batch.features) if features else None
        want = model.final_merge_network[2](model.gate_fusion(primary, secondary, tab).relu())
        assert torch.equal(model(batch), want)


def test_only_what_is_stored_unused_does_not_learn():
    model = make(TrimodalGateFusion).train()
    model.training_step(make_batch(3)).backward()
    idle = {name.rsplit(".", 2)[0] for name, value in model.named_parameters() if value.grad is None}
    assert idle == {"gate_fusion.gate_primary_secondary", "gate_fusion.gate_text_tab"}


def test_fusion_dropout():
    assert make(TrimodalGateFusion).final_merge_network[1].p == 0.1
    assert make(TrimodalGateFusion, fusion_dropout=0).final_merge_network[1].p == 0


def test_all_missing_and_wrong_keys_are_named():
    wrong = {**CONFIG, "primary_text_name": None, "fusion_dim": 0, "fusion_dropout": 2}
    assert set(wrong_keys(TrimodalGateFusion, wrong)) == {"primary_text_name", "fusion_dim", "fusion_dropout"}
