"""Model class of toy artifacts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.models.micro_batches import encode_rows
from bsm_core.models.model_config import ModelConfig


class ToyConfig(ModelConfig):
    """Config keys of :class:`ToyMean`."""

    text_name: str
    tab_field_list: tuple[str, ...]
    vocab_size: PositiveInt


class ToyMean(ModelBase):
    """Linear classifier on the mean token embedding and the features of a row."""

    Config = ToyConfig
    config: ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, 4)
        self.head = nn.Linear(4 + len(config.tab_field_list), config.num_classes)

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean token embeddings, float ``[rows, 4]``."""
        column = self.config.text_name
        return {column: encode_rows(batch.texts[column], self._encode, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return text vectors and features side by side, float ``[rows, 4 + features]``."""
        return torch.cat([texts[self.config.text_name], features], dim=1)

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.head(fused.to(self.head.weight.dtype))
        return logits

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors: Tensor = self.embedding(input_ids) * attention_mask[..., None]
        return vectors.sum(1) / attention_mask.sum(1, keepdim=True)
