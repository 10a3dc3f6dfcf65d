"""Late fusion: text and features each give logits, and a learned weight decides."""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bsm_core import Batch, ModelBase, ModelConfig, encode_rows


class LateFusionConfig(ModelConfig):
    """Config keys of the class, beside those that every model class has."""

    text_name: str
    tab_field_list: tuple[str, ...] = Field(min_length=1)
    vocab_size: PositiveInt  # of the tokenizer
    hidden_common_dim: PositiveInt = 32
    text_weight: float = Field(default=0.5, gt=0, lt=1)  # to begin with


class LateFusion(ModelBase):
    """``weight * text + (1 - weight) * features``, of the logits of each."""

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

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        chunks = batch.texts[self.config.text_name]
        text = encode_rows(chunks, self.encode, self.token_budget).to(self.weight.dtype)
        features = batch.features.to(self.weight.dtype).asinh()  # tames large numbers
        weight = self.weight.sigmoid()
        return weight * self.text_head(text) + (1 - weight) * self.tab_head(features)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean embeddings, float ``[chunks, size]``; padding does not count."""
        vectors = self.embedding(input_ids) * attention_mask[..., None]
        return vectors.sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)
