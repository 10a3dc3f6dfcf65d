from __future__ import annotations

import pytest

from bsm_core import ModelBase
from bsm_core.plugins.registry import default_registry

OURS = [c for c in default_registry().components if c.kind == "model_class" and c.provider.distribution == "bsm-core"]
ALIASES = {
    "bimodal": "bimodal_bert",
    "multimodal_bert": "bimodal_bert",
    "trimodal": "trimodal_bert",
    "multimodal_cnn": "bimodal_cnn",
    "multimodal_gate_fusion": "bimodal_gate_fusion",
    "multimodal_moe": "bimodal_moe",
    "multimodal_cross_attn": "bimodal_cross_attn",
    "bimodal_cross_att": "bimodal_cross_attn",
    "trimodal_gate_fusion_bert": "trimodal_gate_fusion",
    "trimodal_cross_attn_bert": "trimodal_cross_attn",
    "text_bert_classification": "bert",
    "text_lstm": "lstm",
}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_names_that_older_training_jobs_gave(alias, name):
    assert default_registry().resolve("model_class", alias).name == name


def test_the_classes():
    assert {c.name for c in OURS} - ALIASES.keys() == {
        "bert", "transformers_classifier", "lstm", "text_cnn", "tabular",
        "bimodal_bert", "bimodal_cnn", "bimodal_gate_fusion", "bimodal_cross_attn", "bimodal_moe",
        "trimodal_bert", "trimodal_gate_fusion", "trimodal_cross_attn",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(c.name for c in OURS))
def test_every_name_loads_a_model_class(name):
    registry = default_registry()
    component = registry.resolve("model_class", name)
    assert component.provider.distribution == "bsm-core"
    assert issubclass(registry.load(component, ModelBase), ModelBase)
