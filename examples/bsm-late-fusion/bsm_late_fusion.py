"""Late fusion: a learned weight combines the logits of text and features."""

from collections.abc import Mapping

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bsm_core import Batch, ModelBase, ModelConfig, encode_rows


class LateFusionConfig(ModelConfig):
    """Config keys of the class, in addition to those of every model class."""

    text_name: str
    tab_field_list: tuple[str, ...] = Field(min_length=1)
    vocab_size: PositiveInt  # size of the tokenizer
    hidden_common_dim: PositiveInt = 32
    text_weight: float = Field(default=0.5, gt=0, lt=1)  # initial value


class LateFusion(ModelBase):
    """Logits ``weight * text + (1 - weight) * features`` with a learned weight."""

    Config = LateFusionConfig
    config: LateFusionConfig

    def __init__(self, config: LateFusionConfig) -> None:
        super().__init__(config)
        size, classes = config.hidden_common_dim, config.num_classes
        self.embedding = nn.Embedding(config.vocab_size, size)
        self.text_head = nn.Linear(size, classes)
        hidden = nn.Linear(len(config.tab_field_list), size)
        self.tab_head = nn.Sequential(hidden, nn.ReLU(), nn.Linear(size, classes))
        self.weight = nn.Parameter(torch.tensor(config.text_weight).logit())

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return text vectors, float ``[rows, hidden_common_dim]``."""
        column = self.config.text_name
        return {column: encode_rows(batch.texts[column], self.encode, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return text vectors and features side by side, float ``[rows, size]``."""
        numbers = features.asinh()  # reduces large numbers
        return torch.cat([texts[self.config.text_name], numbers], dim=1)

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        sizes = [self.config.hidden_common_dim, len(self.config.tab_field_list)]
        text, features = fused.to(self.weight.dtype).split(sizes, dim=1)
        weight = self.weight.sigmoid()
        return weight * self.text_head(text) + (1 - weight) * self.tab_head(features)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return mean embeddings without padding, float ``[chunks, size]``."""
        vectors = self.embedding(input_ids) * attention_mask[..., None]
        return vectors.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)
