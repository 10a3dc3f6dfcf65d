"""Model class that reads features only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from bsm_core import ModelBase
from bsm_plugins_models.encoders.tabular import SomeFeatures, TabularConfig, TabularEncoder
from bsm_plugins_models.heads import Head


class FeaturesConfig(TabularConfig):
    """Config keys of :class:`Tabular`."""

    tab_field_list: SomeFeatures


class Tabular(ModelBase):
    """Tabular encoder and a head."""

    Config = FeaturesConfig
    config: FeaturesConfig
    proposed_config: ClassVar[Mapping[str, Any]] = {"hidden_common_dim": 64}

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__(config)
        self.tab_subnetwork = TabularEncoder(config)
        self.final_merge_network = Head(config.hidden_common_dim, config.num_classes)

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the vectors of the features, float ``[rows, hidden_common_dim]``."""
        vectors: Tensor = self.tab_subnetwork(features)
        return vectors

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)
