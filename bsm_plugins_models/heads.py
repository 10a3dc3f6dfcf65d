"""Heads of the model classes, which turn fused vectors into logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from torch import Tensor, nn


class Head(nn.Sequential):
    """ReLU, Dropout and Linear from each size to the next; no Dropout where ``dropout`` is None.

    Args:
        sizes: Size of the fused vector, sizes of hidden layers, and number of classes.
        first: Layers before these.
        dropout: Probability of Dropout.
    """

    __call__: Callable[..., Tensor]

    def __init__(self, *sizes: int, first: Iterable[nn.Module] = (), dropout: float | None = None) -> None:
        layers = list(first)
        for before, after in pairwise(sizes):
            drop = [] if dropout is None else [nn.Dropout(dropout)]
            layers += [nn.ReLU(), *drop, nn.Linear(before, after)]
        super().__init__(*layers)
