"""Model classes that read two text fields, each with its own BERT, and, if the config lists any, features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator
from torch import Tensor

from bsm_core import Batch
from bsm_plugins_models.encoders.bert import BertTextEncoder, EncoderConfig, LayerCount
from bsm_plugins_models.encoders.pooling import EncoderPooling, ReinitPooler
from bsm_plugins_models.encoders.tabular import TabularConfig, TabularEncoder
from bsm_plugins_models.fusion.concat import concat
from bsm_plugins_models.fusion.cross_attention import TextCrossAttention, check_heads
from bsm_plugins_models.fusion.gate import ThreeGateFusion
from bsm_plugins_models.fusion.projection import projection
from bsm_plugins_models.heads import Head
from bsm_plugins_models.limits import Size
from bsm_plugins_models.pretrained import PretrainedModelBase, PretrainedModule


def _or_shared(key: str, **options: Any) -> Any:
    """Declare a key of one text field, with the key without ``primary_`` or ``secondary_`` as the fallback."""
    return Field(validation_alias=AliasChoices(key, key.partition("_")[2]), **options)


class TrimodalConfig(TabularConfig):
    """Config keys of all trimodal classes."""

    primary_text_name: str
    secondary_text_name: str
    primary_text_encoder: EncoderConfig = _or_shared("primary_text_encoder")
    secondary_text_encoder: EncoderConfig = _or_shared("secondary_text_encoder")
    primary_hidden_common_dim: Size = _or_shared("primary_hidden_common_dim")
    secondary_hidden_common_dim: Size = _or_shared("secondary_hidden_common_dim")
    primary_pooling: EncoderPooling = _or_shared("primary_pooling", default=None, validate_default=True)
    secondary_pooling: EncoderPooling = _or_shared("secondary_pooling", default=None, validate_default=True)
    primary_reinit_pooler: ReinitPooler = _or_shared("primary_reinit_pooler", default=False)
    secondary_reinit_pooler: ReinitPooler = _or_shared("secondary_reinit_pooler", default=False)
    primary_reinit_layers: LayerCount = _or_shared("primary_reinit_layers", default=0)
    secondary_reinit_layers: LayerCount = _or_shared("secondary_reinit_layers", default=0)
    fusion_dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _no_size_for_no_features(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in ``hidden_common_dim``, which is not used if both texts have a size and there are no features."""
        if values.get("tab_field_list") or "secondary_hidden_common_dim" not in values:
            return values
        return {"hidden_common_dim": values.get("primary_hidden_common_dim"), **values}


class TrimodalBertConfig(TrimodalConfig):
    """Config keys of the classes with a hidden layer in the head."""

    fusion_hidden_dim: Size | None = None


class TrimodalGateConfig(TrimodalConfig):
    """Config keys of the class with gates."""

    fusion_dim: Size | None = None


class TrimodalCrossAttnConfig(TrimodalBertConfig):
    """Config keys of the class with cross-attention."""

    cross_attention_heads: Size = Field(default=8, validate_default=True)
    cross_attention_dropout: float = Field(default=0.1, ge=0, lt=1)

    @field_validator("cross_attention_heads")
    @classmethod
    def _divide(cls, heads: int, info: ValidationInfo) -> int:
        sizes = [info.data.get(f"{prefix}_hidden_common_dim", heads) for prefix in ("primary", "secondary")]
        return check_heads(heads, max(sizes))


class Trimodal(PretrainedModelBase):
    """Base class with two text encoders and a tabular encoder; a subclass fuses their vectors."""

    config: TrimodalConfig
    final_merge_network: Head

    def __init__(self, config: TrimodalConfig) -> None:
        super().__init__(config)
        self.primary_text_subnetwork = BertTextEncoder(config, "primary_")
        self.secondary_text_subnetwork = BertTextEncoder(config, "secondary_")
        self.tab_subnetwork = TabularEncoder.from_config(config)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the two text encoders."""
        return {
            "primary_text_encoder": self.primary_text_subnetwork,
            "secondary_text_encoder": self.secondary_text_subnetwork,
        }

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the vectors of both texts, float ``[rows, primary_hidden_common_dim]`` and the secondary's size."""
        primary, secondary = self.config.primary_text_name, self.config.secondary_text_name
        return {
            primary: self.primary_text_subnetwork(batch.texts[primary], self.token_budget),
            secondary: self.secondary_text_subnetwork(batch.texts[secondary], self.token_budget),
        }

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return fused vectors, float ``[rows, size]``; the features go through the tabular encoder."""
        tab = None if self.tab_subnetwork is None else self.tab_subnetwork(features)
        return self.fuse(texts[self.config.primary_text_name], texts[self.config.secondary_text_name], tab)

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)

    @abstractmethod
    def fuse(self, primary: Tensor, secondary: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``.

        Args:
            primary: Vectors of the primary text, float ``[rows, primary_hidden_common_dim]``.
            secondary: Vectors of the secondary text, float ``[rows, secondary_hidden_common_dim]``.
            tab: Tabular vectors, float ``[rows, hidden_common_dim]``; None without features.
        """


def _deep_head(config: TrimodalBertConfig, texts: int) -> Head:
    """Build a head with a hidden layer; ``texts`` is the size of both text vectors together."""
    fused = texts + (config.hidden_common_dim if config.tab_field_list else 0)
    hidden = config.fusion_hidden_dim or max(128, fused // 2)
    return Head(fused, hidden, config.num_classes, dropout=config.fusion_dropout)


class TrimodalBert(Trimodal):
    """Two BERTs and features, concatenated, and a head with a hidden layer."""

    Config = TrimodalBertConfig
    proposed_config: ClassVar[Mapping[str, Any]] = {"hidden_common_dim": 64}

    def __init__(self, config: TrimodalBertConfig) -> None:
        super().__init__(config)
        self.final_merge_network = _deep_head(
            config, config.primary_hidden_common_dim + config.secondary_hidden_common_dim
        )

    def fuse(self, primary: Tensor, secondary: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        return concat(primary, secondary, tab)


class TrimodalCrossAttn(Trimodal):
    """Two BERTs with cross-attention, concatenated with features, and a head with a hidden layer."""

    Config = TrimodalCrossAttnConfig

    def __init__(self, config: TrimodalCrossAttnConfig) -> None:
        super().__init__(config)
        size = max(config.primary_hidden_common_dim, config.secondary_hidden_common_dim)
        self.primary_projection = projection(config.primary_hidden_common_dim, size)
        self.secondary_projection = projection(config.secondary_hidden_common_dim, size)
        heads, dropout = config.cross_attention_heads, config.cross_attention_dropout
        self.cross_attention = TextCrossAttention(size, heads, dropout)
        self.final_merge_network = _deep_head(config, 2 * size)

    def fuse(self, primary: Tensor, secondary: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        texts = self.cross_attention(self.primary_projection(primary), self.secondary_projection(secondary))
        return concat(*texts, tab)


class TrimodalGateFusion(Trimodal):
    """Two BERTs and features, weighted by gates in each dimension."""

    Config = TrimodalGateConfig

    def __init__(self, config: TrimodalGateConfig) -> None:
        super().__init__(config)
        primary, secondary = config.primary_hidden_common_dim, config.secondary_hidden_common_dim
        tab = config.hidden_common_dim if config.tab_field_list else None
        size = config.fusion_dim or max(primary, secondary)
        self.gate_fusion = ThreeGateFusion(primary, secondary, tab, size)
        self.final_merge_network = Head(size, config.num_classes, dropout=config.fusion_dropout)

    def fuse(self, primary: Tensor, secondary: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        fused: Tensor = self.gate_fusion(primary, secondary, tab)
        return fused
