"""Heads of the model classes, which turn fused vectors into logits."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def head(*sizes: int, dropout: float | None = None) -> nn.Sequential:
    """Build ReLU, Dropout and Linear from each size to the next; no Dropout where ``dropout`` is None.

    Args:
        sizes: Size of the fused vector, sizes of hidden layers, and number of classes.
        dropout: Probability of Dropout.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        drop = [] if dropout is None else [nn.Dropout(dropout)]
        layers += [nn.ReLU(), *drop, nn.Linear(before, after)]
    return nn.Sequential(*layers)
