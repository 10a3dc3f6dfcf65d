"""Registers the built-in model classes; imports none of them."""

from __future__ import annotations

from bsm_core import Alias, hookimpl


@hookimpl
def bsm_model_classes() -> dict[str, str | Alias]:
    """Our model classes and the names that older training jobs gave them."""
    return {
        "bimodal_bert": "bsm_plugins_models.bimodal:BimodalBert",
        "bimodal": Alias("bimodal_bert"),
        "multimodal_bert": Alias("bimodal_bert"),
    }
