"""Text encoders from transformers, such as BERT (Devlin et al., 2019, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import AfterValidator, Field, NonNegativeInt, ValidationInfo
from torch import Tensor, nn

from bsm_core import BuildBackend, ModelConfig
from bsm_plugins_models.encoders.hugging_face import PADDING_COUNTS, build_encoder, layers_of, read_encoder
from bsm_plugins_models.encoders.lengths import by_length
from bsm_plugins_models.encoders.packed import tuned
from bsm_plugins_models.encoders.pooling import EncoderPooling, Pooling, ReinitPooler, default_pooling, pooled
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.pretrained import PretrainedModule, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _buildable(encoder: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    read_encoder(encoder)
    try:
        with torch.device("meta"):  # takes no memory and draws no weights
            longest = longest_chunk(build_encoder(encoder, pooler=False))
    except Exception as error:
        raise ValueError(f"this encoder cannot be built: {error}") from error
    if longest is not None and (length := info.data.get("max_sen_len", 0)) > longest:
        raise ValueError(f"max_sen_len is {length}, the encoder has positions for {longest} tokens")
    return encoder


def _has_layers(count: int, info: ValidationInfo) -> int:
    encoder = info.data.get(str(info.field_name).replace("reinit_layers", "text_encoder"))
    if encoder and count:
        layers: int = read_encoder(encoder).num_hidden_layers
        if count > layers:
            raise ValueError(f"the encoder has {layers} layers")
        with torch.device("meta"):
            if not layers_of(build_encoder(encoder, pooler=False), layers):
                raise ValueError("the layers of this encoder share their weights; set this key to 0")
    return count


EncoderConfig = Annotated[dict[str, Any], AfterValidator(_buildable)]
"""Content of a Hugging Face ``config.json``, of an encoder that has positions for ``max_sen_len`` tokens."""

LayerCount = Annotated[NonNegativeInt, AfterValidator(_has_layers)]
"""Number of layers, at most as many as the encoder has; 0 if its layers share their weights."""


class BertConfig(ModelConfig):
    """Config keys of a model class with one BERT encoder."""

    text_name: str
    text_encoder: EncoderConfig
    pooling: EncoderPooling = Field(default=None, validate_default=True)
    reinit_pooler: ReinitPooler = False
    reinit_layers: LayerCount = 0


_POSITION_TABLES = ("position_embeddings", "embed_positions", "char_position_embeddings")
"""Names of modules that have a vector for each position; encoders without one take texts of any length."""


def longest_chunk(bert: PreTrainedModel) -> int | None:
    """Return the largest number of tokens for which an encoder has positions; None if there is no limit.

    Encoders with relative or rotary positions have no limit. In a RoBERTa, and in other models with a ``padding_idx``
    in their embeddings, the first token of a chunk has the position ``padding_idx + 1``, so they take fewer tokens than
    they have positions.

    Raises:
        ValueError: Positions are counted from ``pad_token_id``, and the config has none.
    """
    if not any(name.rpartition(".")[2] in _POSITION_TABLES for name, _ in bert.named_modules()):
        return None
    positions: int = bert.config.max_position_embeddings
    embeddings: Any = getattr(bert, "embeddings", None)
    if isinstance(embeddings, nn.Embedding) or not hasattr(embeddings, "padding_idx"):
        return positions
    if embeddings.padding_idx is None:
        raise ValueError("pad_token_id is null, but this type of encoder counts positions from pad_token_id + 1")
    return positions - int(embeddings.padding_idx) - 1


class BertEncoder(TextEncoder):
    """Text encoder of transformers, whose tokens are pooled to the vector of a chunk; a subclass adds the last layer.

    Args:
        text_encoder: Content of the encoder's ``config.json``.
        reinit_pooler: Whether :meth:`load_pretrained` keeps the new weights of the pooler.
        reinit_layers: Number of last layers of which :meth:`load_pretrained` keeps the new weights.
        pooling: How the tokens of a chunk are pooled; None for the pooler, or ``"cls"`` for an encoder without one.
    """

    def __init__(
        self,
        text_encoder: dict[str, Any],
        reinit_pooler: bool = False,
        reinit_layers: int = 0,
        pooling: Pooling | None = None,
    ) -> None:
        super().__init__()
        kind: str = text_encoder["model_type"]
        self.pooling: Pooling = pooling or default_pooling(kind)
        self.bert = build_encoder(text_encoder, pooler=self.pooling == "pooler")
        self.pad_id = getattr(self.bert.config, "pad_token_id", None) or 0
        self.longest, self.vocabulary = longest_chunk(self.bert), self.bert.config.vocab_size
        self.reinit_pooler, self.reinit_layers = reinit_pooler, reinit_layers
        self._padding_counts = kind in PADDING_COUNTS

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the pooled vectors, float ``[chunks, hidden size]``.

        Encoders that mix tokens with padding encode chunks of one length at a time.
        """
        if not self._padding_counts:
            return self._pooled(input_ids, attention_mask)
        return by_length(self._pooled, input_ids, attention_mask)

    def _pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return pooled(self.bert(input_ids=input_ids, attention_mask=attention_mask), attention_mask, self.pooling)

    def backends(self) -> Mapping[str, BuildBackend]:
        """Return the backend ``"tuned"``, which computes some types without padding, the others with packed products.

        A subclass that overrides ``encode`` does not have it.
        """
        return (
            {tuned.NAME: partial(tuned.build, self.bert, pooling=self.pooling)}
            if type(self).encode is BertEncoder.encode
            else {}
        )

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the encoder itself."""
        return {"text_encoder": self}

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the transformers model."""
        return self.bert.parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load the state dict of a transformers model, except the pooler and layers that keep their new weights.

        Weights of a pooler are passed over if the encoder has none.

        Raises:
            ConfigError: Weights are missing (other than the pooler's), unexpected, or of another shape.
        """
        count: int = self.bert.config.num_hidden_layers
        layers = layers_of(self.bert, count) or ("encoder.layer",)  # shared layers: no name has a number after this
        fresh = [f"{name}.{count - i}." for name in layers for i in range(1, self.reinit_layers + 1)]
        if self.pooling != "pooler":
            state = {name: value for name, value in state.items() if not name.startswith("pooler.")}
        elif self.reinit_pooler or not any(name.startswith("pooler.") for name in state):
            fresh.append("pooler.")
        load_weights(self.bert, state, key=key, fresh=fresh)


class BertTextEncoder(BertEncoder):
    """Text encoder with Dropout and a Linear after the mean over a row's chunks.

    Args:
        config: Config of the model class, with the arguments of :class:`BertEncoder` and ``hidden_common_dim``, the
            size of a row's vector.
        prefix: Start of these keys: ``"primary_"`` or ``"secondary_"`` if the model reads two text fields.
    """

    def __init__(self, config: ModelConfig, prefix: str = "") -> None:
        keys = ("text_encoder", "pooling", "reinit_pooler", "reinit_layers")
        super().__init__(**{key: getattr(config, prefix + key) for key in keys})
        size: int = getattr(config, f"{prefix}hidden_common_dim")
        self.head_layer = nn.Sequential(nn.Dropout(0.1), nn.Linear(self.bert.config.hidden_size, size))

    def project(self, means: Tensor) -> Tensor:
        """Return vectors, float ``[rows, hidden_common_dim]``."""
        vectors: Tensor = self.head_layer(means)
        return vectors


_DROPOUTS = ("classifier_dropout", "hidden_dropout_prob", "seq_classif_dropout", "dropout")
"""Names of the dropout before a classifier in the configs of the types of encoders, best first."""


class BertClassifier(BertEncoder):
    """Layers of a transformers sequence classifier, with the classifier applied to the mean of a row's chunks.

    The names of the weights are those of transformers.

    Args:
        config: Config of the model class.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config.text_encoder, config.reinit_pooler, config.reinit_layers, config.pooling)
        own = self.bert.config
        self.dropout = nn.Dropout(next((p for key in _DROPOUTS if (p := getattr(own, key, None)) is not None), 0.0))
        self.classifier = nn.Linear(own.hidden_size, config.num_classes)

    def project(self, means: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.classifier(self.dropout(means))
        return logits
