"""Gradient checkpointing: encoders that compute their activations twice instead of keeping them."""

from __future__ import annotations

from bsm_core.errors import ConfigError
from bsm_core.models.base import ModelBase


def checkpoint_gradients(model: ModelBase) -> None:
    """Let each transformers encoder of a model keep only the inputs of its layers in training.

    The backward pass computes a layer's activations again, with the random numbers of the first time, so the weights
    become the same (Chen et al., 2016, arXiv:1604.06174).

    Raises:
        ConfigError: The model has no such encoder, or one that does not offer this.
    """
    from transformers import PreTrainedModel

    found = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    lacking = [type(module).__name__ for module in found if not module.supports_gradient_checkpointing]
    if lacking or not found:
        raise ConfigError(
            f"{', '.join(lacking) or 'the model'} has no gradient checkpointing: only layers of transformers have it",
            where="config.gradient_checkpointing",
            fix="set gradient_checkpointing to false; accumulate_grad_batches with a lower batch_size needs less"
            " memory, too",
        )
    for module in found:
        if getattr(module.config, "use_cache", False):  # transformers would warn of it
            module.config.use_cache = False
        # transformers 5 has renamed the method; encoders keep no cache.
        enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
        enable({"use_reentrant": False})  # reentrant: no gradient reaches layers whose inputs need none
