"""Fusion by concatenation, and what stands for a part that a model does not have."""

from __future__ import annotations

import torch
from torch import Tensor


def concat(*vectors: Tensor | None) -> Tensor:
    """Each row's vectors side by side, ``[rows, sum of sizes]``; None stands for a part the model does not have."""
    return torch.cat([vector for vector in vectors if vector is not None], dim=1)


def or_zeros(vectors: Tensor | None, like: Tensor) -> Tensor:
    """``vectors``, or where there are none, zeros of the shape of ``like``."""
    return torch.zeros_like(like) if vectors is None else vectors
