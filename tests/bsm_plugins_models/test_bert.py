from __future__ import annotations

import torch
from support.models import CONFIG, ENCODER, LOSS, linear, make, make_batch, shapes, wrong_keys
from transformers import BertConfig, BertForSequenceClassification

from bsm_plugins_models.encoders.bert import build_encoder
from bsm_plugins_models.text import Bert


def test_the_weights_have_the_names_and_shapes_of_the_artifacts():
    assert shapes(make(Bert), "bert.bert.") == LOSS | linear("bert.classifier", 12, 2)


def test_a_chunk_scores_as_transformers_own_classifier_does():
    model, batch = make(Bert), make_batch(1)
    other = BertForSequenceClassification(BertConfig(**ENCODER)).eval()
    state = {name.removeprefix("bert."): value for name, value in model.state_dict().items()}
    other.load_state_dict({name: state[name] for name in other.state_dict()})
    ids, mask = batch.texts["chat"].padded(0, 1)
    with torch.inference_mode():
        want = other(input_ids=ids, attention_mask=mask).logits
        row = type(batch)(1, {"chat": batch.texts["chat"].from_rows([[ids[0].tolist()]])})
        assert torch.allclose(model(row), want, atol=1e-6)


def test_logits_are_those_of_the_mean_over_a_rows_chunks():
    model, batch = make(Bert), make_batch(5)
    with torch.inference_mode():
        ids, mask = batch.texts["chat"].padded(0, batch.texts["chat"].distinct)
        pooled = model.bert.bert(input_ids=ids, attention_mask=mask).pooler_output
        want = model.bert.classifier(batch.texts["chat"].row_means(pooled))
        assert torch.allclose(model(batch), want, atol=1e-6)


def test_dropout_is_the_classifiers_or_that_of_the_encoder():
    assert make(Bert).bert.dropout.p == 0.1
    assert make(Bert, text_encoder={**ENCODER, "hidden_dropout_prob": 0.3}).bert.dropout.p == 0.3
    assert make(Bert, text_encoder={**ENCODER, "classifier_dropout": 0.0}).bert.dropout.p == 0.0


def test_it_needs_neither_a_common_size_nor_features():
    config = {key: CONFIG[key] for key in ("text_name", "text_encoder", "max_sen_len")}
    assert Bert.from_config(config).config.num_classes == 2


def test_all_missing_and_wrong_keys_are_named():
    assert set(wrong_keys(Bert, {})) == {"text_name", "text_encoder"}
    wrong = {**CONFIG, "text_name": 1, "reinit_layers": 9, "reinit_pooler": "x", "max_sen_len": 17}
    assert set(wrong_keys(Bert, wrong)) == {"text_name", "reinit_pooler", "text_encoder"}
    assert wrong_keys(Bert, {**CONFIG, "reinit_layers": 9})["reinit_layers"] == "the encoder has 2 layers (it is 9)"


def test_the_encoder_starts_from_pretrained_weights():
    model, state = make(Bert, reinit_layers=1), build_encoder(ENCODER).state_dict()
    model.load_pretrained("text_encoder", state)
    loaded = model.bert.bert.state_dict()
    same = {name for name, value in state.items() if value.ndim > 1 and torch.equal(loaded[name], value)}
    assert {name for name in state if name.startswith("encoder.layer.0") and state[name].ndim > 1} < same
    assert not any(name.startswith("encoder.layer.1") for name in same)
