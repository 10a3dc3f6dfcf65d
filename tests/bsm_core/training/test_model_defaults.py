from __future__ import annotations

import logging

import pytest
from support.training import save_encoder

from bsm_core.artifact.features.feature_scaling import check_feature_scaling
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.model_defaults import NEW_WEIGHTS_LR, model_defaults
from bsm_core.training.optional.lora import ADAPTER_LR

CONFIG = {"model_class": "tabular", "tab_field_list": ["a", "b"], "hidden_common_dim": 4, "label_name": "label"}
ENCODING = {"text_encoder": {"model_type": "bert"}, "text_name": "chat", "max_sen_len": 8}
SCALING = check_feature_scaling({}, where="test")


def defaults(pretrained=(), **config):
    return model_defaults(TrainingJob({**CONFIG, **config}, Registry.discover()), SCALING, pretrained)


def test_new_weights_need_a_higher_learning_rate(caplog):
    with caplog.at_level(logging.INFO):
        assert defaults()["lr"] == NEW_WEIGHTS_LR
    assert "lr is 0.001, because no pretrained encoder is loaded" in caplog.text
    assert defaults(pretrained=["embedding_mat"])["lr"] == NEW_WEIGHTS_LR
    assert "lr" not in defaults(pretrained=["primary_text_encoder"])
    assert "lr" not in defaults(lr=2e-5)


def test_adapters_and_the_layers_after_them_have_each_their_learning_rate(caplog, tmp_path):
    save_encoder(tmp_path / "encoder")
    keys = {**ENCODING, "model_class": "bert", "text_encoder": str(tmp_path / "encoder"), "lora": {}}
    keys["pretrained"] = ["text_encoder"]
    with caplog.at_level(logging.INFO):
        found = defaults(**keys)
    assert (found["encoder_lr"], found["lr"]) == (ADAPTER_LR, NEW_WEIGHTS_LR)
    assert "encoder_lr is 0.0002, because lora trains adapters; the config key encoder_lr sets" in caplog.text
    assert "lr is 0.001, because lora freezes the encoder, and the layers after it are new" in caplog.text
    caplog.clear()
    assert defaults(encoder_lr=1e-4, **keys).items() >= {"lr": NEW_WEIGHTS_LR}.items()
    assert "encoder_lr" not in defaults(encoder_lr=1e-4, **keys)
    assert "adapters" not in caplog.text
    found = defaults(lr=1e-2, **keys)
    assert (found["encoder_lr"], "lr" in found) == (ADAPTER_LR, False)


def test_a_model_class_with_a_default_of_its_own_keeps_it(monkeypatch):
    from bsm_plugins_models.tabular import FeaturesConfig, Tabular

    class Own(FeaturesConfig):
        lr: float = 0.05

    monkeypatch.setattr(Tabular, "Config", Own)
    assert "lr" not in defaults()


def test_scaled_features_need_no_norm():
    assert defaults()["feature_norm"] == "none"
    assert defaults(scaling={"a": "none"})["feature_norm"] == "none"
    for keys in ({"scaling": "none"}, {"scaling": {"a": "none", "b": "none"}}, {"feature_norm": "layer"}):
        assert "feature_norm" not in defaults(**keys)
    assert "feature_norm" not in defaults(model_class="bimodal_bert", tab_field_list=[], **ENCODING)
    assert defaults(model_class="bimodal_bert", **ENCODING)["feature_norm"] == "none"
    assert "feature_norm" not in defaults(model_class="bert", **ENCODING)


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({"scaling": "none"}, True),
        ({"feature_norm": "layer"}, True),
        ({"scaling": "none", "feature_norm": "none"}, False),
        ({}, False),
        ({"scaling": "none", "tab_field_list": ["a", "b"]}, False),
    ],
)
def test_a_norm_over_a_single_feature_is_a_warning(caplog, keys, warned):
    defaults(**{"tab_field_list": ["a"], **keys})
    assert ("makes all values of the only feature 'a' equal" in caplog.text) == warned


def test_a_feature_with_several_inputs_is_not_alone(caplog):
    scaling = check_feature_scaling({"a": {"kind": "one_hot", "categories": ["x", "y"]}}, where="test")
    model_defaults(
        TrainingJob({**CONFIG, "tab_field_list": ["a"], "one_hot": ["a"], "scaling": "none"}, Registry.discover()),
        scaling,
        (),
    )
    assert not caplog.messages
