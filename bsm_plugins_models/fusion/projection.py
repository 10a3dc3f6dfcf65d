"""Bringing vectors to one size."""

from __future__ import annotations

from torch import nn


def projection(before: int, after: int) -> nn.Module:
    """A Linear from one size to another; nothing where they are the same."""
    return nn.Identity() if before == after else nn.Linear(before, after)
