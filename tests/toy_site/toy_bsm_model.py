from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bsm_core import Batch, ModelBase, ModelConfig, encode_rows


class ToyConfig(ModelConfig):
    text_name: str
    tab_field_list: tuple[str, ...] = ()
    size: int = 4


class ToyModel(ModelBase):
    """Mean embedding of the characters, beside the features, and a Linear."""

    Config = ToyConfig
    config: ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(128, config.size)
        self.head = nn.Linear(config.size + len(config.tab_field_list), config.num_classes)

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        column = self.config.text_name
        return {column: encode_rows(batch.texts[column], self.encode, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        return torch.cat([texts[self.config.text_name], features], dim=1)

    def classify_rows(self, fused: Tensor) -> Tensor:
        return self.head(fused)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors = self.embedding(input_ids) * attention_mask[..., None]
        return vectors.sum(1) / attention_mask.sum(1, keepdim=True)
