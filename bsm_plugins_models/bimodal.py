"""Model classes that read one text field and, if the config lists any, features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from bsm_core import Batch
from bsm_plugins_models.encoders.bert import BertConfig, BertTextEncoder
from bsm_plugins_models.encoders.cnn import EXAMPLE_CONFIG, OPTIONAL_STATE, CnnConfig, CnnTextEncoder
from bsm_plugins_models.encoders.tabular import SomeFeatures, TabularConfig, TabularEncoder
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.fusion.concat import concat, or_zeros
from bsm_plugins_models.fusion.cross_attention import CrossAttention, check_heads
from bsm_plugins_models.fusion.gate import GateFusion
from bsm_plugins_models.fusion.mixture_of_experts import MixtureOfExperts
from bsm_plugins_models.heads import Head
from bsm_plugins_models.limits import Size
from bsm_plugins_models.pretrained import PretrainedModelBase, PretrainedModule


class BimodalConfig(BertConfig, TabularConfig):
    """Config keys of the classes with a BERT encoder."""


class BimodalCnnConfig(CnnConfig, TabularConfig):
    """Config keys of the class with a text CNN."""


class FusionConfig(BimodalConfig):
    """Config keys of the classes that project the text vector and the tabular vector to the same size."""

    fusion_dim: Size | None = None


class CrossAttnConfig(BimodalConfig):
    """Config keys of the class with cross-attention."""

    tab_field_list: SomeFeatures
    num_heads: Size = Field(default=4, validate_default=True)

    @field_validator("num_heads")
    @classmethod
    def _divide(cls, heads: int, info: ValidationInfo) -> int:
        return check_heads(heads, info.data.get("hidden_common_dim", heads))


class Bimodal(PretrainedModelBase):
    """Base class with a text encoder and a tabular encoder; a subclass fuses their vectors, and turns them into logits.

    Args:
        config: Config of the model class.
        text: The text encoder; a BERT where None.
    """

    config: BimodalConfig | BimodalCnnConfig

    def __init__(self, config: BimodalConfig | BimodalCnnConfig, text: TextEncoder | None = None) -> None:
        super().__init__(config)
        self.text_subnetwork = BertTextEncoder(config) if text is None else text
        self.tab_subnetwork = TabularEncoder.from_config(config)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the modules of the text encoder."""
        return self.text_subnetwork.pretrained_modules()

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return text vectors, float ``[rows, hidden_common_dim]``."""
        text = batch.texts[self.config.text_name]
        return {self.config.text_name: self.text_subnetwork(text, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return fused vectors, float ``[rows, size]``; the features go through the tabular encoder."""
        tab = None if self.tab_subnetwork is None else self.tab_subnetwork(features)
        return self.fuse(texts[self.config.text_name], tab)

    @abstractmethod
    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``.

        Args:
            text: Text vectors, float ``[rows, hidden_common_dim]``.
            tab: Tabular vectors of the same shape; None without features.
        """


class _Concatenated(Bimodal):
    """Concatenation of the text vector and the tabular vector, and a head."""

    def __init__(self, config: BimodalConfig | BimodalCnnConfig, text: TextEncoder | None = None) -> None:
        super().__init__(config, text)
        fused = config.hidden_common_dim * (1 if self.tab_subnetwork is None else 2)
        self.final_merge_network = Head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        return concat(text, tab)

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)


class BimodalBert(_Concatenated):
    """BERT and features, concatenated."""

    Config = BimodalConfig
    proposed_config: ClassVar[Mapping[str, Any]] = {"hidden_common_dim": 64}


class BimodalCnn(_Concatenated):
    """Text CNN and features, concatenated."""

    Config = BimodalCnnConfig
    optional_state = (*Bimodal.optional_state, *OPTIONAL_STATE)
    example_config = EXAMPLE_CONFIG

    def __init__(self, config: BimodalCnnConfig) -> None:
        super().__init__(config, CnnTextEncoder(config))


class BimodalGateFusion(Bimodal):
    """BERT and features, mixed by a gate in each dimension; without features, the tabular vector is zeros."""

    Config = FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        size = config.hidden_common_dim
        fused = config.fusion_dim or size
        self.gate_fusion = GateFusion(size, size, fused)
        self.final_merge_network = Head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        fused: Tensor = self.gate_fusion(text, or_zeros(tab, text))
        return fused

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)


class BimodalMoe(Bimodal):
    """BERT and features, weighted by a router in each row; without features, the tabular vector is zeros."""

    Config = FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        size = config.hidden_common_dim
        fused = config.fusion_dim or size
        self.moe_fusion = MixtureOfExperts(size, size, fused)
        self.classifier = Head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        fused: Tensor = self.moe_fusion(text, or_zeros(tab, text))
        return fused

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.classifier(fused)


class BimodalCrossAttn(Bimodal):
    """BERT and features with cross-attention: text attends to features, then features attend to the result."""

    Config = CrossAttnConfig

    def __init__(self, config: CrossAttnConfig) -> None:
        super().__init__(config)
        size = config.hidden_common_dim
        self.cross_att = CrossAttention(size, config.num_heads)
        self.final_merge_network = Head(size, config.num_classes, first=[nn.Linear(2 * size, size)])

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        return concat(*self.cross_att(text, tab))

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)
