"""Registers the built-in model classes; imports none of them."""

from __future__ import annotations

from bsm_core import Alias, hookimpl


@hookimpl
def bsm_model_classes() -> dict[str, str | Alias]:
    """Our model classes and the names that older training jobs gave them."""
    return {
        "bert": "bsm_plugins_models.text:Bert",
        "text_bert_classification": Alias("bert"),
        "lstm": "bsm_plugins_models.text:Lstm",
        "text_lstm": Alias("lstm"),
        "text_cnn": "bsm_plugins_models.text:TextCnn",
        "tabular": "bsm_plugins_models.tabular:Tabular",
        "bimodal_bert": "bsm_plugins_models.bimodal:BimodalBert",
        "bimodal": Alias("bimodal_bert"),
        "multimodal_bert": Alias("bimodal_bert"),
        "bimodal_cnn": "bsm_plugins_models.bimodal:BimodalCnn",
        "multimodal_cnn": Alias("bimodal_cnn"),
        "bimodal_gate_fusion": "bsm_plugins_models.bimodal:BimodalGateFusion",
        "multimodal_gate_fusion": Alias("bimodal_gate_fusion"),
        "bimodal_moe": "bsm_plugins_models.bimodal:BimodalMoe",
        "multimodal_moe": Alias("bimodal_moe"),
        "bimodal_cross_attn": "bsm_plugins_models.bimodal:BimodalCrossAttn",
        "bimodal_cross_att": Alias("bimodal_cross_attn"),
        "multimodal_cross_attn": Alias("bimodal_cross_attn"),
        "trimodal_bert": "bsm_plugins_models.trimodal:TrimodalBert",
        "trimodal": Alias("trimodal_bert"),
        "trimodal_gate_fusion": "bsm_plugins_models.trimodal:TrimodalGateFusion",
        "trimodal_gate_fusion_bert": Alias("trimodal_gate_fusion"),
        "trimodal_cross_attn": "bsm_plugins_models.trimodal:TrimodalCrossAttn",
        "trimodal_cross_attn_bert": Alias("trimodal_cross_attn"),
    }
