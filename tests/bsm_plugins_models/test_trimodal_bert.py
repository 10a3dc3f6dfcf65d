from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, ENCODER, LOSS, TAB, linear, make, make_batch, shapes, wrong_keys

from bsm_core import ConfigError
from bsm_plugins_models.encoders.bert import build_encoder
from bsm_plugins_models.trimodal import TrimodalBert

ENCODERS = ("primary_text_subnetwork.bert.", "secondary_text_subnetwork.bert.")


def texts(primary, secondary):
    return linear("primary_text_subnetwork.head_layer.1", 12, primary) | linear(
        "secondary_text_subnetwork.head_layer.1", 12, secondary
    )


@pytest.mark.parametrize(("given", "size"), [(7, 7), (None, 128)])
def test_the_weights_have_the_names_and_shapes_of_the_artifacts(given, size):
    head = linear("final_merge_network.2", 24, size) | linear("final_merge_network.5", size, 2)
    assert shapes(make(TrimodalBert, fusion_hidden_dim=given), *ENCODERS) == LOSS | texts(8, 8) | TAB | head


def test_the_hidden_layer_grows_with_what_it_reads():
    model = make(TrimodalBert, primary_hidden_common_dim=300, secondary_hidden_common_dim=9)
    assert model.final_merge_network[2].weight.shape == ((300 + 9 + 8) // 2, 317)


def test_logits_are_the_head_on_three_vectors_side_by_side():
    model, batch = make(TrimodalBert), make_batch(5)
    with torch.inference_mode():
        primary = model.primary_text_subnetwork(batch.texts["chat"], model.token_budget)
        secondary = model.secondary_text_subnetwork(batch.texts["notes"], model.token_budget)
        tab = model.tab_subnetwork(batch.features)
        hidden = model.final_merge_network[2](torch.cat([primary, secondary, tab], 1).relu())
        assert torch.equal(model(batch), model.final_merge_network[5](hidden.relu()))


def test_the_two_texts_have_a_bert_each():
    parameters = dict(make(TrimodalBert).named_parameters())
    assert len({value.data_ptr() for value in parameters.values()}) == len(parameters)


@pytest.mark.parametrize("features", [[], None])
def test_without_features_there_is_no_tabular_part(features):
    model = make(TrimodalBert, tab_field_list=features, fusion_hidden_dim=5)
    head = linear("final_merge_network.2", 16, 5) | linear("final_merge_network.5", 5, 2)
    assert shapes(model, *ENCODERS) == LOSS | texts(8, 8) | head
    assert model.predict_step(make_batch(3, 0)).shape == (3, 2)


def test_keys_of_one_field_come_before_those_of_both():
    small = {**ENCODER, "hidden_size": 6}
    model = make(
        TrimodalBert,
        hidden_common_dim=9,
        primary_hidden_common_dim=4,
        secondary_text_encoder=small,
        secondary_reinit_layers=2,
        reinit_layers=1,
        primary_reinit_pooler=True,
    )
    primary, secondary = model.primary_text_subnetwork, model.secondary_text_subnetwork
    assert primary.head_layer[1].weight.shape == (4, 12)
    assert secondary.head_layer[1].weight.shape == (9, 6)
    assert model.tab_subnetwork.embedding_layer[1].out_features == 9
    assert (primary.reinit_layers, secondary.reinit_layers) == (1, 2)
    assert (primary.reinit_pooler, secondary.reinit_pooler) == (True, False)


def test_a_null_key_of_one_field_falls_back():
    model = make(TrimodalBert, primary_hidden_common_dim=None, primary_text_encoder=None)
    assert model.config.primary_hidden_common_dim == 8


def test_fusion_dropout():
    assert make(TrimodalBert).final_merge_network[1].p == 0.1
    assert [make(TrimodalBert, fusion_dropout=0.3).final_merge_network[i].p for i in (1, 4)] == [0.3, 0.3]


def test_all_missing_and_wrong_keys_are_named():
    both = {f"{prefix}_{key}" for prefix in ("primary", "secondary") for key in ("text_name", "text_encoder")}
    sizes = {"hidden_common_dim", "primary_hidden_common_dim", "secondary_hidden_common_dim"}
    assert set(wrong_keys(TrimodalBert, {})) == both | sizes
    wrong = {
        **CONFIG,
        "hidden_common_dim": 0,
        "primary_reinit_layers": 3,
        "secondary_text_encoder": {},
        "fusion_dropout": 1,
        "fusion_hidden_dim": -1,
    }
    assert set(wrong_keys(TrimodalBert, wrong)) == wrong.keys() - CONFIG.keys() | {"hidden_common_dim"}


def test_a_wrong_key_of_both_fields_is_said_once():
    with pytest.raises(ConfigError, match="1 problem") as caught:
        make(TrimodalBert, hidden_common_dim=0)
    assert caught.value.details == ("hidden_common_dim: Input should be greater than 0 (it is 0)",)


def test_each_encoder_starts_from_its_own_pretrained_weights():
    model = make(TrimodalBert, secondary_reinit_pooler=True)
    state = {name: torch.ones_like(value) for name, value in build_encoder(ENCODER).state_dict().items()}
    model.load_pretrained("secondary_text_encoder", state)
    primary, secondary = model.primary_text_subnetwork.bert, model.secondary_text_subnetwork.bert
    assert (secondary.embeddings.word_embeddings.weight == 1).all()
    assert not (secondary.pooler.dense.weight == 1).any()
    assert not (primary.embeddings.word_embeddings.weight == 1).any()
    model.load_pretrained("primary_text_encoder", state)
    assert (primary.pooler.dense.weight == 1).all()
    with pytest.raises(ConfigError, match="cannot load pretrained weights for 'text_encoder'"):
        model.load_pretrained("text_encoder", state)


def test_without_features_the_texts_own_sizes_are_enough():
    sizes = {"hidden_common_dim": None, "primary_hidden_common_dim": 6, "secondary_hidden_common_dim": 4}
    model = make(TrimodalBert, tab_field_list=None, **sizes)
    assert model.final_merge_network[2].in_features == 10
    with pytest.raises(ConfigError, match="hidden_common_dim: missing"):
        make(TrimodalBert, **sizes)
