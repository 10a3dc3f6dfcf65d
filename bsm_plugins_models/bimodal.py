"""Model classes on one text field and, where the config lists any, features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import Tensor, nn

from bsm_core import Batch
from bsm_plugins_models.encoders.bert import BertConfig, BertTextEncoder
from bsm_plugins_models.encoders.cnn import OPTIONAL_STATE, CnnConfig, CnnTextEncoder
from bsm_plugins_models.encoders.tabular import SomeFeatures, TabularConfig, TabularEncoder
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.fusion.concat import concat, or_zeros
from bsm_plugins_models.fusion.cross_attention import CrossAttention, check_heads
from bsm_plugins_models.fusion.gate import GateFusion
from bsm_plugins_models.fusion.mixture_of_experts import MixtureOfExperts
from bsm_plugins_models.heads import head
from bsm_plugins_models.pretrained import Part, PretrainedParts


class BimodalConfig(BertConfig, TabularConfig):
    """Config keys of the classes on a BERT."""


class BimodalCnnConfig(CnnConfig, TabularConfig):
    """Config keys of the class on a text CNN."""


class FusionConfig(BimodalConfig):
    """Config keys of the classes that project both vectors to one size."""

    fusion_dim: PositiveInt | None = None


class CrossAttnConfig(BimodalConfig):
    """Config keys of the class with cross-attention."""

    tab_field_list: SomeFeatures
    num_heads: PositiveInt = Field(default=4, validate_default=True)

    @field_validator("num_heads")
    @classmethod
    def _divide(cls, heads: int, info: ValidationInfo) -> int:
        return check_heads(heads, info.data.get("hidden_common_dim", heads))


class Bimodal(PretrainedParts):
    """A text encoder and a tabular encoder; a subclass turns their vectors into logits."""

    config: BimodalConfig | BimodalCnnConfig

    def __init__(self, config: BimodalConfig | BimodalCnnConfig, text: TextEncoder) -> None:
        super().__init__(config)
        self.text_subnetwork = text
        self.tab_subnetwork = TabularEncoder.from_config(config)

    def parts(self) -> Mapping[str, Part]:
        """Those of the text encoder."""
        return self.text_subnetwork.parts()

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        text = self.text_subnetwork(batch.texts[self.config.text_name], self.token_budget)
        return self.fuse(text, None if self.tab_subnetwork is None else self.tab_subnetwork(batch.features))

    @abstractmethod
    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Logits from two ``[rows, hidden_common_dim]``; ``tab`` is None where there are no features."""


class _Concatenated(Bimodal):
    """The text vector beside the tabular vector, and a head."""

    def __init__(self, config: BimodalConfig | BimodalCnnConfig, text: TextEncoder) -> None:
        super().__init__(config, text)
        fused = config.hidden_common_dim * (1 if self.tab_subnetwork is None else 2)
        self.final_merge_network = head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.final_merge_network(concat(text, tab))
        return logits


class BimodalBert(_Concatenated):
    """A BERT beside features."""

    Config = BimodalConfig

    def __init__(self, config: BimodalConfig) -> None:
        super().__init__(config, BertTextEncoder.from_config(config))


class BimodalCnn(_Concatenated):
    """A text CNN beside features."""

    Config = BimodalCnnConfig
    optional_state = (*Bimodal.optional_state, *OPTIONAL_STATE)

    def __init__(self, config: BimodalCnnConfig) -> None:
        super().__init__(config, CnnTextEncoder(config))


class BimodalGateFusion(Bimodal):
    """A gate decides between a BERT and features, dimension by dimension; with no features, zeros stand for them."""

    Config = FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config, BertTextEncoder.from_config(config))
        size = config.hidden_common_dim
        fused = config.fusion_dim or size
        self.gate_fusion = GateFusion(size, size, fused)
        self.final_merge_network = head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.final_merge_network(self.gate_fusion(text, or_zeros(tab, text)))
        return logits


class BimodalMoe(Bimodal):
    """A router weighs a BERT against features, row by row; with no features, zeros stand for them."""

    Config = FusionConfig

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config, BertTextEncoder.from_config(config))
        size = config.hidden_common_dim
        fused = config.fusion_dim or size
        self.moe_fusion = MixtureOfExperts(size, size, fused)
        self.classifier = head(fused, config.num_classes)

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.classifier(self.moe_fusion(text, or_zeros(tab, text)))
        return logits


class BimodalCrossAttn(Bimodal):
    """A BERT attends to features, and features to what it became."""

    Config = CrossAttnConfig

    def __init__(self, config: CrossAttnConfig) -> None:
        super().__init__(config, BertTextEncoder.from_config(config))
        size = config.hidden_common_dim
        self.cross_att = CrossAttention(size, config.num_heads)
        self.final_merge_network = nn.Sequential(nn.Linear(2 * size, size), *head(size, config.num_classes))

    def fuse(self, text: Tensor, tab: Tensor | None) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.final_merge_network(concat(*self.cross_att(text, tab)))
        return logits
