"""Means over chunks and features come as float32; a model may be in another precision."""

from __future__ import annotations

from torch import Tensor, nn


def in_precision_of(module: nn.Module, values: Tensor) -> Tensor:
    """``values`` in the precision of the module's weights, ``bfloat16`` for example."""
    return values.to(next(module.parameters()).dtype)
