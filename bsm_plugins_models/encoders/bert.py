"""Text encoders on a transformers encoder with a pooler, such as BERT (Devlin et al., 2019, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import AfterValidator, NonNegativeInt, ValidationInfo
from torch import Tensor, nn

from bsm_core import BuildBackend, ModelConfig
from bsm_plugins_models.encoders.packed import bert as packed
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.pretrained import Part, start_from

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "data2vec-text")
"""Types whose positions begin behind the padding token's id."""


def _known_type(encoder: dict[str, Any]) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    if encoder.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(f"model_type {encoder.get('model_type')!r} is none that transformers knows")
    try:
        with torch.device("meta"):  # without memory and numbers, but with everything that can be wrong
            build_encoder(encoder)
    except Exception as error:
        raise ValueError(f"no encoder can be built of it: {error}") from error
    return encoder


def _has_positions(encoder: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    longest, wanted = longest_chunk(encoder), info.data.get("max_sen_len", 0)
    if longest is not None and wanted > longest:
        raise ValueError(f"max_sen_len is {wanted}, the encoder has positions for {longest} tokens")
    return encoder


def _has_layers(count: int, info: ValidationInfo) -> int:
    encoder = info.data.get(str(info.field_name).replace("reinit_layers", "text_encoder"))
    if encoder and count > (layers := _setting(encoder, "num_hidden_layers") or 0):
        raise ValueError(f"the encoder has {layers} layers")
    return count


EncoderConfig = Annotated[dict[str, Any], AfterValidator(_known_type), AfterValidator(_has_positions)]
"""The content of a Hugging Face ``config.json``, with positions for ``max_sen_len`` tokens."""

LayerCount = Annotated[NonNegativeInt, AfterValidator(_has_layers)]
"""A number of layers, no more than the encoder has."""


class BertConfig(ModelConfig):
    """Config keys of a model class with one BERT."""

    text_name: str
    text_encoder: EncoderConfig
    reinit_pooler: bool = False
    reinit_layers: LayerCount = 0


def _setting(encoder: dict[str, Any], key: str) -> int | None:
    """A key of an encoder's config, or what transformers takes where it is not there."""
    from transformers import CONFIG_MAPPING

    value: int | None = getattr(CONFIG_MAPPING[encoder["model_type"]].from_dict(encoder), key, None)
    return value


def longest_chunk(encoder: dict[str, Any]) -> int | None:
    """Most tokens of a chunk that the encoder has positions for; None where its positions have no end."""
    positions = _setting(encoder, "max_position_embeddings")
    if positions is None or encoder["model_type"] not in _POSITIONS_BEHIND_PADDING:
        return positions
    return int(positions) - int(encoder.get("pad_token_id") or 1) - 1


def build_encoder(encoder: dict[str, Any]) -> PreTrainedModel:
    """A transformers ``AutoModel`` with fresh weights; nothing is downloaded and no code of the artifact is run."""
    from transformers import CONFIG_MAPPING, AutoModel

    settings = CONFIG_MAPPING[encoder["model_type"]].from_dict(encoder)
    # float32 whatever the config was saved in: a lower precision is the runner's choice, not the file's
    model: PreTrainedModel = AutoModel.from_config(settings, dtype=torch.float32)  # type: ignore[no-untyped-call]
    if getattr(model, "pooler", None) is None:
        raise ValueError(f"an encoder of type {encoder['model_type']!r} has no pooler")
    return model


class BertEncoder(TextEncoder):
    """The pooler output of each chunk; a subclass adds the last layer.

    Args:
        text_encoder: The encoder's ``config.json``.
        reinit_pooler: Leave the pooler out when weights are loaded by :meth:`load_pretrained`.
        reinit_layers: Leave that many of the last layers out, too.
    """

    def __init__(self, text_encoder: dict[str, Any], reinit_pooler: bool = False, reinit_layers: int = 0) -> None:
        super().__init__()
        self.bert = build_encoder(text_encoder)
        self.pad_id = text_encoder.get("pad_token_id") or 0
        self.longest, self.vocabulary = longest_chunk(text_encoder), self.bert.config.vocab_size
        self.reinit_pooler, self.reinit_layers = reinit_pooler, reinit_layers

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Pooler output, float ``[chunks, encoded]``."""
        output: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return output

    def backends(self) -> Mapping[str, BuildBackend]:
        """``"tuned"``: without padding, where the encoder is a plain BERT or RoBERTa and ``encode`` is this one."""
        return {"tuned": partial(packed.build, self.bert)} if type(self).encode is BertEncoder.encode else {}

    def parts(self) -> Mapping[str, Part]:
        """The encoder itself."""
        return {"text_encoder": self}

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the transformers model."""
        return self.bert.parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Start from the state dict of a transformers model; what is to be fresh stays as it was built.

        Raises:
            ConfigError: Weights are missing (the pooler's may be), unexpected, or of another shape.
        """
        layers = self.bert.config.num_hidden_layers
        fresh = [f"encoder.layer.{layers - i}." for i in range(1, self.reinit_layers + 1)]
        if self.reinit_pooler or not any(name.startswith("pooler.") for name in state):
            fresh.append("pooler.")
        start_from(self.bert, state, key=key, fresh=fresh)


class BertTextEncoder(BertEncoder):
    """The pooler output of each chunk, mean over the row's chunks, Dropout and a Linear.

    Args:
        text_encoder, reinit_pooler, reinit_layers: As in :class:`BertEncoder`.
        hidden_common_dim: Size of a row's vector.
    """

    def __init__(
        self, text_encoder: dict[str, Any], hidden_common_dim: int, reinit_pooler: bool = False, reinit_layers: int = 0
    ) -> None:
        super().__init__(text_encoder, reinit_pooler, reinit_layers)
        self.head_layer = nn.Sequential(nn.Dropout(0.1), nn.Linear(self.bert.config.hidden_size, hidden_common_dim))

    @classmethod
    def from_config(cls, config: ModelConfig, prefix: str = "") -> Self:
        """From the keys of these names, with ``"primary_"`` or ``"secondary_"`` before them for one of two fields."""
        keys = ("text_encoder", "hidden_common_dim", "reinit_pooler", "reinit_layers")
        return cls(**{key: getattr(config, prefix + key) for key in keys})

    def project(self, means: Tensor) -> Tensor:
        """Vectors, float ``[rows, hidden_common_dim]``."""
        vectors: Tensor = self.head_layer(means)
        return vectors


class BertClassifier(BertEncoder):
    """The weights and layers of a transformers sequence classifier, over the mean of the row's chunks.

    Args:
        config: The encoder and how much of it is to be fresh.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config.text_encoder, config.reinit_pooler, config.reinit_layers)
        own = self.bert.config
        classifier_dropout = getattr(own, "classifier_dropout", None)
        self.dropout = nn.Dropout(own.hidden_dropout_prob if classifier_dropout is None else classifier_dropout)
        self.classifier = nn.Linear(own.hidden_size, config.num_classes)

    def project(self, means: Tensor) -> Tensor:
        """Logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.classifier(self.dropout(means))
        return logits
