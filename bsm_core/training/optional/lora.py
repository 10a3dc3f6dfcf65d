"""LoRA: small matrices beside the frozen weights of a pretrained encoder are trained, and added to them at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from bsm_core.errors import ConfigError
from bsm_core.models.base import ModelBase

log = logging.getLogger("bsm")

ADAPTER_LR = 2e-4
"""Learning rate of adapters, ten times that of the weights beside which they are trained."""


class LoraSettings(BaseModel):
    """Content of the config key ``lora``.

    Attributes:
        r: Rank of the matrices.
        alpha: Scale: the product of the matrices is multiplied by ``alpha / r``.
        dropout: Dropout before the matrices, in training.
        target_modules: Ends of the names of the linear layers that get matrices; ``"all-linear"`` for all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: PositiveInt = 8
    alpha: PositiveInt = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"


def add_adapters(model: ModelBase, settings: LoraSettings) -> None:
    """Freeze each transformers encoder of a model, and add adapters to its linear layers (Hu et al., 2021).

    Everything else of the model is trained as without adapters.

    Raises:
        ConfigError: The model has no such encoder, or no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import PreTrainedModel

    encoders = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if not encoders:
        what, fix = "the model has no encoder of transformers", "remove lora, or use another model class"
        raise ConfigError(what, where="config.lora", fix=fix)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
    )
    for encoder in encoders:
        linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
        try:
            inject_adapter_in_model(config, encoder)
        except ValueError as error:
            raise ConfigError(
                f"no adapters can be added: {error}",
                where="config.lora.target_modules",
                details=[f"linear layers: {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}"],
                fix="name some of these layers, or set target_modules to 'all-linear'",
            ) from error
    sizes = [(weight.requires_grad, weight.numel()) for weight in model.parameters()]
    trained, frozen = (sum(size for is_trained, size in sizes if is_trained == which) for which in (True, False))
    added = sum(w.numel() for encoder in encoders for name, w in encoder.named_parameters() if "lora_" in name)
    told = "lora: %s weights are trained, %s of them in adapters of rank %d; %s are frozen"
    log.info(told, f"{trained:,}", f"{added:,}", settings.r, f"{frozen:,}")


def merge_adapters(model: ModelBase, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with their adapters added to the layers, so that they are those of a model without adapters.

    Args:
        model: A model with adapters. Afterwards it has no adapters, and the returned weights.
        weights: State dict of the model.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model.load_state_dict(weights)
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())
    return model.state_dict()
