"""Defaults that a training job chooses for config keys of the model class: learning rates and ``feature_norm``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

from bsm_core.artifact.features.feature_scaling import FeatureScaling
from bsm_core.models.model_config import ModelConfig
from bsm_core.training.config.training_config import ENCODERS
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.optional.lora import ADAPTER_LR

log = logging.getLogger("bsm")

NEW_WEIGHTS_LR = 1e-3
"""Learning rate of weights that are trained from the start, beside no pretrained encoder or a frozen one."""


def model_defaults(job: TrainingJob, scaling: FeatureScaling, pretrained: Collection[str]) -> dict[str, Any]:
    """Return the config keys, with values, that the config does not set and the job therefore chooses.

    Args:
        job: The training job.
        scaling: Scaling of the features.
        pretrained: Config keys of the modules that start from pretrained weights.
    """
    chosen: dict[str, Any] = {}
    for key, value, why in _rates(job, pretrained):
        if _is_free(job, key):
            chosen[key] = value
            log.info("%s is %g, because %s; the config key %s sets another", key, value, why, key)
    features = job.artifact.tab_field_list
    if features and job.reads("feature_norm"):
        if "feature_norm" not in job.values and any(job.training.kind(name) != "none" for name in features):
            chosen["feature_norm"] = "none"
        norm = chosen.get("feature_norm", job.values.get("feature_norm", "layer"))
        if norm == "layer" and len(scaling.input_names(features)) == 1:
            told = "feature_norm 'layer' makes all values of the only feature %r equal; set feature_norm to 'none'"
            log.warning(told, features[0])
    return chosen


def _rates(job: TrainingJob, pretrained: Collection[str]) -> Iterator[tuple[str, float, str]]:
    """Yield the config key of each learning rate that the model class should not choose, with a rate and the reason."""
    if job.training.lora:
        yield "encoder_lr", ADAPTER_LR, "lora trains adapters"
        yield "lr", NEW_WEIGHTS_LR, "lora freezes the encoder, and the layers after it are new"
    elif not any(key in ENCODERS for key in pretrained):
        yield "lr", NEW_WEIGHTS_LR, "no pretrained encoder is loaded"


def _is_free(job: TrainingJob, key: str) -> bool:
    """Return whether neither the config nor the model class has a value of its own for a key of every model class."""
    fields = job.model_class.Config.model_fields, ModelConfig.model_fields
    return key not in job.values and fields[0][key].default == fields[1][key].default
