"""Tabular encoder: LayerNorm, Linear, ReLU."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor, nn

from bsm_core import ModelConfig
from bsm_plugins_models.encoders.precision import in_precision_of
from bsm_plugins_models.limits import Size


def _at_least_one(features: tuple[str, ...]) -> tuple[str, ...]:
    if not features:
        raise ValueError("the model class needs at least one feature")
    return features


SomeFeatures = Annotated[tuple[str, ...], AfterValidator(_at_least_one)]
"""Names of features, at least one: the ``tab_field_list`` of a model class that needs features."""


class TabularConfig(ModelConfig):
    """Config keys of a model class with features."""

    tab_field_list: tuple[str, ...] = ()
    hidden_common_dim: Size


class TabularEncoder(nn.Module):
    """LayerNorm, Linear and ReLU: ``[rows, features] -> [rows, size]``."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.embedding_layer = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, size), nn.ReLU())

    @classmethod
    def from_config(cls, config: TabularConfig) -> TabularEncoder | None:
        """Build the encoder; None if the config lists no features."""
        return cls(len(config.tab_field_list), config.hidden_common_dim) if config.tab_field_list else None

    def forward(self, features: Tensor) -> Tensor:
        """Return vectors, float ``[rows, size]``."""
        vectors: Tensor = self.embedding_layer(in_precision_of(self, features))
        return vectors
