from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, TAB, attention, linear, make, make_batch, norm, shapes, wrong_keys

from bsm_plugins_models.trimodal import TrimodalCrossAttn

ENCODERS = ("primary_text_subnetwork.bert.", "secondary_text_subnetwork.bert.")


def cross(size):
    found = attention("cross_attention.attn_p2s", size) | attention("cross_attention.attn_s2p", size)
    for field in ("primary", "secondary"):
        found |= norm(f"cross_attention.norm_{field}", size) | norm(f"cross_attention.norm_ffn_{field}", size)
        found |= linear(f"cross_attention.ffn_{field}.0", size, 4 * size)
        found |= linear(f"cross_attention.ffn_{field}.3", 4 * size, size)
    return found


@pytest.mark.parametrize(
    ("primary", "secondary", "projections"),
    [
        (8, 8, {}),
        (8, 16, linear("primary_projection", 8, 16)),
        (16, 8, linear("secondary_projection", 8, 16)),
    ],
)
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(primary, secondary, projections):
    model = make(
        TrimodalCrossAttn,
        primary_hidden_common_dim=primary,
        secondary_hidden_common_dim=secondary,
        fusion_hidden_dim=7,
    )
    size = max(primary, secondary)
    texts = linear("primary_text_subnetwork.head_layer.1", 12, primary)
    texts |= linear("secondary_text_subnetwork.head_layer.1", 12, secondary)
    head = linear("final_merge_network.2", 2 * size + 8, 7) | linear("final_merge_network.5", 7, 2)
    assert shapes(model, *ENCODERS) == LOSS | texts | TAB | projections | cross(size) | head


@pytest.mark.parametrize("features", [3, 0])
def test_logits_are_the_head_on_two_texts_that_met_beside_features(features):
    model = make(TrimodalCrossAttn, secondary_hidden_common_dim=16, tab_field_list=["a", "b", "c"][:features])
    batch = make_batch(5, features)
    with torch.inference_mode():
        primary = model.primary_projection(model.primary_text_subnetwork(batch.texts["chat"], model.token_budget))
        secondary = model.secondary_text_subnetwork(batch.texts["notes"], model.token_budget)
        vectors = list(model.cross_attention(primary, secondary))
        if features:
            vectors.append(model.tab_subnetwork(batch.features))
        hidden = model.final_merge_network[2](torch.cat(vectors, 1).relu())
        assert torch.equal(model(batch), model.final_merge_network[5](hidden.relu()))


def test_the_options():
    model = make(TrimodalCrossAttn, cross_attention_heads=2, cross_attention_dropout=0.3, fusion_dropout=0.4)
    assert (model.cross_attention.attn_p2s.num_heads, model.cross_attention.attn_s2p.num_heads) == (2, 2)
    assert [model.cross_attention.ffn_primary[i].p for i in (2, 4)] == [0.3, 0.3]
    assert model.final_merge_network[1].p == 0.4
    default = make(TrimodalCrossAttn)
    assert (default.cross_attention.attn_p2s.num_heads, default.cross_attention.ffn_secondary[2].p) == (8, 0.1)


def test_all_missing_and_wrong_keys_are_named():
    wrong = {**CONFIG, "secondary_text_name": 3, "cross_attention_heads": 5, "cross_attention_dropout": -1}
    assert set(wrong_keys(TrimodalCrossAttn, wrong)) == {
        "secondary_text_name", "cross_attention_heads", "cross_attention_dropout"
    }  # fmt: skip


def test_heads_must_divide_the_larger_of_the_two_sizes():
    sizes = {"primary_hidden_common_dim": 12, "secondary_hidden_common_dim": 18, "cross_attention_heads": 4}
    assert wrong_keys(TrimodalCrossAttn, {**CONFIG, **sizes}) == {
        "cross_attention_heads": "4 heads do not divide vectors of size 18 (it is 4)"
    }
