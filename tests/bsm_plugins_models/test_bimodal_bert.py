from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, ENCODER, LOSS, TAB, TEXT, linear, make, make_batch, shapes, wrong_keys

from bsm_core import ConfigError
from bsm_plugins_models.bimodal import BimodalBert
from bsm_plugins_models.encoders.bert import build_encoder


def test_the_weights_have_the_names_and_shapes_of_the_artifacts():
    assert shapes(make(BimodalBert), "text_subnetwork.bert.") == LOSS | TEXT | TAB | linear(
        "final_merge_network.1", 16, 2
    )


def test_logits_are_the_head_on_text_beside_features():
    model, batch = make(BimodalBert), make_batch(5)
    with torch.inference_mode():
        text = model.text_subnetwork(batch.texts["chat"], model.token_budget)
        tab = model.tab_subnetwork(batch.features)
        want = model.final_merge_network[1](torch.cat([text, tab], 1).relu())
        assert torch.equal(model(batch), want)


@pytest.mark.parametrize("features", [[], None])
def test_without_features_there_is_no_tabular_part(features):
    model = make(BimodalBert, tab_field_list=features)
    assert shapes(model, "text_subnetwork.bert.") == LOSS | TEXT | linear("final_merge_network.1", 8, 2)
    assert model.predict_step(make_batch(3, 0)).shape == (3, 2)


def test_all_missing_and_wrong_keys_are_named():
    wrong = {"tab_field_list": "a", "hidden_common_dim": 0, "text_encoder": {"model_type": "x"}, "reinit_layers": -1}
    assert set(wrong_keys(BimodalBert, wrong)) == {
        "text_name", "tab_field_list", "hidden_common_dim", "text_encoder", "reinit_layers"
    }  # fmt: skip
    assert set(wrong_keys(BimodalBert, {})) == {"text_name", "hidden_common_dim", "text_encoder"}


def test_chunks_longer_than_the_encoder_has_positions_for_are_refused():
    with pytest.raises(ConfigError, match="max_sen_len is 17, the encoder has positions for 16 tokens"):
        make(BimodalBert, max_sen_len=17)
    assert make(BimodalBert, max_sen_len=16).config.max_sen_len == 16


def test_the_encoder_starts_from_pretrained_weights_and_keeps_a_fresh_pooler():
    model, state = make(BimodalBert, reinit_pooler=True), build_encoder(ENCODER).state_dict()
    before = model.text_subnetwork.bert.pooler.dense.weight.clone()
    model.load_pretrained("text_encoder", state)
    loaded = model.text_subnetwork.bert.state_dict()
    assert {name for name, value in state.items() if not torch.equal(loaded[name], value)} == {"pooler.dense.weight"}
    assert torch.equal(loaded["pooler.dense.weight"], before)


@pytest.mark.parametrize("key", ["primary_text_encoder", "embedding_mat"])
def test_a_part_it_does_not_have(key):
    with pytest.raises(ConfigError, match=rf"BimodalBert cannot load pretrained weights for '{key}' \(config.{key}\)"):
        make(BimodalBert).load_pretrained(key, {})


def test_an_encoder_config_in_an_error_is_cut_short():
    (said,) = wrong_keys(BimodalBert, {**CONFIG, "text_encoder": {**ENCODER, "model_type": "x"}}).values()
    assert len(said) < 200
    assert said.endswith("...)")
