"""Model classes on one text field and, where the config lists any, tabular features."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from bsm_core import Batch, ModelBase, ModelConfig
from bsm_plugins_models.encoders.bert import BertTextEncoder, EncoderConfig, longest_chunk
from bsm_plugins_models.encoders.tabular import TabularEncoder
from bsm_plugins_models.fusion.concat import concat_head


class BimodalConfig(ModelConfig):
    """Config keys of the bimodal classes."""

    text_name: str
    tab_field_list: tuple[str, ...] = ()
    hidden_common_dim: PositiveInt
    text_encoder: EncoderConfig

    @model_validator(mode="after")
    def _chunks_have_positions(self) -> Self:
        longest = longest_chunk(self.text_encoder)
        if longest is not None and self.max_sen_len > longest:
            raise ValueError(f"max_sen_len is {self.max_sen_len}, the encoder has positions for {longest} tokens")
        return self


class BimodalBert(ModelBase):
    """A BERT text encoder and a tabular encoder, concatenated."""

    Config = BimodalConfig
    config: BimodalConfig

    def __init__(self, config: BimodalConfig) -> None:
        super().__init__(config)
        size, features = config.hidden_common_dim, len(config.tab_field_list)
        self.text_subnetwork = BertTextEncoder(config.text_encoder, size)
        self.tab_subnetwork = TabularEncoder(features, size) if features else None
        self.final_merge_network = concat_head(2 * size if features else size, config.num_classes)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float32 ``[rows, num_classes]``."""
        vectors = [self.text_subnetwork(batch.texts[self.config.text_name], self.token_budget)]
        if self.tab_subnetwork is not None:
            vectors.append(self.tab_subnetwork(batch.features))
        logits: Tensor = self.final_merge_network(torch.cat(vectors, dim=1))
        return logits
