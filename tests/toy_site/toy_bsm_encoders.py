from typing import ClassVar

import torch
from pydantic import AliasChoices, Field
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModel

from bsm_core import Batch, ModelBase, ModelConfig, encode_rows


class ToyEmbeddingConfig(ModelConfig):
    text_name: str
    embedding_shape: tuple[int, int]
    vocab_size: int


class ToyEmbedding(ModelBase):
    """The mean of the tokens' embeddings, dropout, and a Linear."""

    Config = ToyEmbeddingConfig
    config: ToyEmbeddingConfig

    def __init__(self, config: ToyEmbeddingConfig) -> None:
        super().__init__(config)
        assert config.vocab_size <= config.embedding_shape[0]
        self.embedding = nn.Embedding(*config.embedding_shape)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(config.embedding_shape[1], config.num_classes))

    def forward(self, batch: Batch) -> Tensor:
        return self.head(encode_rows(batch.texts[self.config.text_name], self.encode, self.token_budget))

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors = self.embedding(input_ids) * attention_mask[..., None]
        return vectors.sum(1) / attention_mask.sum(1, keepdim=True)

    def load_pretrained(self, key, state):
        assert key == "embedding_mat"
        self.embedding.load_state_dict(state)


class ToyEncoderConfig(ModelConfig):
    text_name: str
    tab_field_list: tuple[str, ...] = ()
    text_encoder: dict


class ToyEncoder(ModelBase):
    """A transformers encoder for each text field, the vectors of their first tokens, and a Linear."""

    Config = ToyEncoderConfig
    fields: ClassVar = {"text_name": "text_encoder"}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        for key in self.fields.values():
            settings = dict(getattr(config, key))
            self.add_module(key, AutoModel.from_config(CONFIG_MAPPING[settings["model_type"]].from_dict(settings)))
        sizes = [getattr(self, key).config.hidden_size for key in self.fields.values()]
        self.head = nn.Linear(sum(sizes), config.num_classes)

    def forward(self, batch: Batch) -> Tensor:
        vectors = [self.encode(getattr(self, key), batch, name) for name, key in self.fields.items()]
        return self.head(torch.cat(vectors, dim=1))

    def encode(self, encoder: nn.Module, batch: Batch, name: str) -> Tensor:
        def first(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]

        return encode_rows(batch.texts[getattr(self.config, name)], first, self.token_budget)

    def load_pretrained(self, key, state):
        getattr(self, key).load_state_dict(state)


class ToyPairConfig(ModelConfig):
    primary_text_name: str
    secondary_text_name: str
    primary_text_encoder: dict
    secondary_text_encoder: dict
    primary_size: int = Field(4, validation_alias=AliasChoices("primary_size", "size"))


class ToyPair(ToyEncoder):
    """Model class like the one above, with two text fields."""

    Config = ToyPairConfig
    fields: ClassVar = {"primary_text_name": "primary_text_encoder", "secondary_text_name": "secondary_text_encoder"}
