"""Defaults that a training job chooses for config keys of the model class: ``lr`` and ``feature_norm``."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from bsm_core.artifact.features.feature_scaling import FeatureScaling
from bsm_core.models.model_config import ModelConfig
from bsm_core.training.config.training_config import ENCODERS
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.optional.lora import ADAPTER_LR

log = logging.getLogger("bsm")

NEW_WEIGHTS_LR = 1e-3
"""Learning rate for a model without a pretrained encoder."""


def model_defaults(job: TrainingJob, scaling: FeatureScaling, pretrained: Collection[str]) -> dict[str, Any]:
    """Return the config keys, with values, that the config does not set and the job therefore chooses.

    Args:
        job: The training job.
        scaling: Scaling of the features.
        pretrained: Config keys of the modules that start from pretrained weights.
    """
    chosen: dict[str, Any] = {}
    if _is_free(job, "lr"):
        if job.training.lora:
            chosen["lr"] = ADAPTER_LR
            why = "because lora trains adapters; the config keys lr and encoder_lr set others"
        elif not any(key in ENCODERS for key in pretrained):
            chosen["lr"] = NEW_WEIGHTS_LR
            why = "because no pretrained encoder is loaded; the config key lr sets another"
        if chosen:
            log.info("lr is %g, %s", chosen["lr"], why)
    features = job.artifact.tab_field_list
    if features and job.reads("feature_norm"):
        if "feature_norm" not in job.values and any(job.training.kind(name) != "none" for name in features):
            chosen["feature_norm"] = "none"
        norm = chosen.get("feature_norm", job.values.get("feature_norm", "layer"))
        if norm == "layer" and len(scaling.input_names(features)) == 1:
            told = "feature_norm 'layer' makes all values of the only feature %r equal; set feature_norm to 'none'"
            log.warning(told, features[0])
    return chosen


def _is_free(job: TrainingJob, key: str) -> bool:
    """Return whether neither the config nor the model class has a value of its own for a key of every model class."""
    fields = job.model_class.Config.model_fields, ModelConfig.model_fields
    return key not in job.values and fields[0][key].default == fields[1][key].default
