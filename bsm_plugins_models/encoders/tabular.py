"""Tabular encoder: LayerNorm, Linear, ReLU."""

from __future__ import annotations

from torch import Tensor, nn


class TabularEncoder(nn.Module):
    """From the feature matrix ``[rows, features]`` to ``[rows, output_size]``."""

    def __init__(self, features: int, output_size: int) -> None:
        super().__init__()
        self.embedding_layer = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, output_size), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Vectors, float32 ``[rows, output_size]``."""
        vectors: Tensor = self.embedding_layer(features)
        return vectors
