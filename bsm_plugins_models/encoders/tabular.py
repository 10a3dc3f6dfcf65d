"""Tabular encoder: LayerNorm or nothing, Linear, ReLU."""

from __future__ import annotations

from typing import Annotated, Literal

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
    feature_count: Size | None = None
    feature_norm: Literal["layer", "none"] = "layer"
    hidden_common_dim: Size

    @property
    def features(self) -> int:
        """Number of inputs that the features have."""
        return self.feature_count or len(self.tab_field_list)


class TabularEncoder(nn.Module):
    """LayerNorm or nothing, Linear and ReLU: ``[rows, inputs] -> [rows, size]``."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__()
        features, size = config.features, config.hidden_common_dim
        # The LayerNorm is over the features of a row. Without it, the Linear keeps its name in the state dict.
        norm = nn.LayerNorm(features) if config.feature_norm == "layer" else nn.Identity()
        self.embedding_layer = nn.Sequential(norm, nn.Linear(features, size), nn.ReLU())

    @classmethod
    def from_config(cls, config: TabularConfig) -> TabularEncoder | None:
        """Build the encoder; None if the config lists no features."""
        return cls(config) if config.tab_field_list else None

    def forward(self, features: Tensor) -> Tensor:
        """Return vectors, float ``[rows, size]``."""
        vectors: Tensor = self.embedding_layer(in_precision_of(self, features))
        return vectors
