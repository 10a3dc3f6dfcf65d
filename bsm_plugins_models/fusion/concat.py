"""Fusion by concatenation, and zeros for a missing vector."""

from __future__ import annotations

import torch
from torch import Tensor


def concat(*vectors: Tensor | None) -> Tensor:
    """Concatenate each row's vectors, ``[rows, sum of sizes]``; None is left out."""
    return torch.cat([vector for vector in vectors if vector is not None], dim=1)


def or_zeros(vectors: Tensor | None, like: Tensor) -> Tensor:
    """Return ``vectors``, or zeros of the shape of ``like`` if ``vectors`` is None."""
    return torch.zeros_like(like) if vectors is None else vectors
