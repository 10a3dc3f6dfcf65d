"""Projection of vectors to another size."""

from __future__ import annotations

from torch import nn


def projection(before: int, after: int) -> nn.Module:
    """Build a Linear from one size to another, or an Identity if the sizes are equal."""
    return nn.Identity() if before == after else nn.Linear(before, after)
