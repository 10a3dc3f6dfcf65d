"""Conversion of float32 inputs to the dtype of a module's weights."""

from __future__ import annotations

from torch import Tensor, nn


def in_precision_of(module: nn.Module, values: Tensor) -> Tensor:
    """Return ``values`` in the dtype of the module's weights, for example ``torch.bfloat16``."""
    return values.to(next(module.parameters()).dtype)
