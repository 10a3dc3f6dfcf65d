"""Config keys and embedding matrix of the encoders that embed tokens themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bsm_core import ModelConfig
from bsm_plugins_models.limits import Size
from bsm_plugins_models.pretrained import load_weights


class EmbeddingConfig(ModelConfig):
    """Config keys of a model class with an embedding matrix; the artifact provides ``embedding_shape``."""

    text_name: str
    hidden_common_dim: Size
    embedding_shape: tuple[PositiveInt, PositiveInt]
    is_embeddings_trainable: bool = True
    dropout_keep: float = Field(default=0.5, gt=0, le=1)


class TokenEmbedding(nn.Embedding):
    """Embedding matrix ``[vocabulary, dimensions]``; frozen unless ``is_embeddings_trainable``."""

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(*config.embedding_shape)
        self.weight.requires_grad_(config.is_embeddings_trainable)

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the matrix."""
        return self.parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load ``state["weight"]``.

        Raises:
            ConfigError: The weight is missing or has another shape.
        """
        load_weights(self, state, key=key)
