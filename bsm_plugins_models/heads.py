"""The head of a model class: from fused vectors to logits."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def head(*sizes: int, dropout: float | None = None) -> nn.Sequential:
    """ReLU, Dropout where it is given, and a Linear, from each size to the next; the last is the number of classes."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        drop = [] if dropout is None else [nn.Dropout(dropout)]
        layers += [nn.ReLU(), *drop, nn.Linear(before, after)]
    return nn.Sequential(*layers)
