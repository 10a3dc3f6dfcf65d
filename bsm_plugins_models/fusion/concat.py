"""Fusion by concatenation."""

from __future__ import annotations

from torch import nn


def concat_head(input_size: int, num_classes: int) -> nn.Sequential:
    """ReLU and a Linear over the concatenated vectors: ``[rows, input_size] -> [rows, num_classes]``."""
    return nn.Sequential(nn.ReLU(), nn.Linear(input_size, num_classes))
