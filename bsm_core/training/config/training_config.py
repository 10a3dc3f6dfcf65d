"""Config keys of a training job, apart from those of the artifact and of the model class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from bsm_core.metrics.names import MetricName
from bsm_core.scoring.self_check import ROWS
from bsm_core.training.features.feature_keys import FeatureKeys
from bsm_core.training.optional.loggers import LoggerName
from bsm_core.training.optional.lora import LoraSettings
from bsm_core.training.wordpiece import SPECIAL_TOKENS

ENCODERS = ("text_encoder", "primary_text_encoder", "secondary_text_encoder")
"""Keys that hold an encoder."""
TOKENIZERS = ("tokenizer", "primary_tokenizer", "secondary_tokenizer")
"""Keys that name a tokenizer."""
OWN_FILES = (*ENCODERS, *TOKENIZERS, "embedding_mat")
"""Keys whose content the artifact stores in files of its own, and not in its config."""


class TrainingConfig(FeatureKeys):
    """Config keys of the training job itself. The model class has further keys, such as ``lr``."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    label_name: str
    multiclass_categories: list[str | int | float | bool] | None = None
    positive_class: str | int | float | bool | None = None
    on_missing_label: Literal["error", "skip"] = "error"
    on_bad_line: Literal["fail", "skip"] = "fail"
    class_weights: Literal["balanced"] | list[NonNegativeFloat] | None = None
    batch_size: PositiveInt = 32
    accumulate_grad_batches: PositiveInt = 1
    max_epochs: PositiveInt = 3
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    monitor: MetricName = "log_loss"
    early_stopping_patience: PositiveInt = 3
    gradient_clip_val: PositiveFloat = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    gradient_checkpointing: bool = False
    lora: LoraSettings | None = None
    loggers: tuple[LoggerName, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    vocab_size: Annotated[int, Field(gt=len(SPECIAL_TOKENS))] = 8000
    min_frequency: PositiveInt = 2
    embed_size: PositiveInt = 64
    risk_smoothing: NonNegativeFloat = 20.0
    risk_min_count: PositiveInt = 1
    baselines: bool | None = None
    calibrate: bool = False
    folds: Annotated[int, Field(ge=2)] | None = None
    check_rows: Annotated[int, Field(ge=0, le=ROWS)] = ROWS
