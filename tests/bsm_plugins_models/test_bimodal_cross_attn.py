from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, LOSS, TAB, TEXT, attention, linear, make, make_batch, norm, shapes, wrong_keys

from bsm_plugins_models.bimodal import BimodalCrossAttn


def test_the_weights_have_the_names_and_shapes_of_the_artifacts():
    cross = attention("cross_att.text2tab", 8) | attention("cross_att.tab2text", 8)
    cross |= norm("cross_att.text_norm", 8) | norm("cross_att.tab_norm", 8)
    head = linear("final_merge_network.0", 16, 8) | linear("final_merge_network.2", 8, 2)
    assert shapes(make(BimodalCrossAttn), "text_subnetwork.bert.") == LOSS | TEXT | TAB | cross | head


def test_logits_are_the_head_on_what_the_two_took_from_each_other():
    model, batch = make(BimodalCrossAttn), make_batch(5)
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        tab = model.tab_subnetwork(batch.features)
        first, last = model.final_merge_network[0], model.final_merge_network[2]
        want = last(first(torch.cat(model.cross_att(text, tab), 1)).relu())
        assert torch.equal(model(batch), want)


@pytest.mark.parametrize(("given", "heads"), [(2, 2), (None, 4)])
def test_the_number_of_heads(given, heads):
    attention = make(BimodalCrossAttn, num_heads=given).cross_att
    assert (attention.text2tab.num_heads, attention.tab2text.num_heads) == (heads, heads)


def test_all_missing_and_wrong_keys_are_named():
    missing = {"text_name", "hidden_common_dim", "text_encoder", "tab_field_list"}
    assert set(wrong_keys(BimodalCrossAttn, {})) == missing
    assert wrong_keys(BimodalCrossAttn, {**CONFIG, "num_heads": 3, "tab_field_list": [], "text_name": None}) == {
        "num_heads": "3 heads do not divide vectors of size 8 (it is 3)",
        "tab_field_list": "the model class needs at least one feature (it is [])",
        "text_name": "missing",
    }


def test_the_default_number_of_heads_is_checked_too():
    assert list(wrong_keys(BimodalCrossAttn, {**CONFIG, "hidden_common_dim": 6})) == ["num_heads"]
