"""What the encoders that embed tokens themselves share: config keys, and the embedding matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bsm_core import ModelConfig
from bsm_plugins_models.pretrained import start_from


class EmbeddingConfig(ModelConfig):
    """Config keys of these encoders; the artifact provides ``embedding_shape``."""

    text_name: str
    hidden_common_dim: PositiveInt
    embedding_shape: tuple[PositiveInt, PositiveInt]
    is_embeddings_trainable: bool = True
    dropout_keep: float = Field(default=0.5, gt=0, le=1)


class TokenEmbedding(nn.Embedding):
    """The embedding matrix ``[vocabulary, dimensions]``; frozen, unless ``is_embeddings_trainable``."""

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(*config.embedding_shape)
        self.weight.requires_grad_(config.is_embeddings_trainable)

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """The matrix."""
        return self.parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Start from ``state["weight"]``.

        Raises:
            ConfigError: It is not there, or of another shape.
        """
        start_from(self, state, key=key)
