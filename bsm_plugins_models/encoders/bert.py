"""Text encoder on a transformers encoder with a pooler, such as BERT (Devlin et al., 2019, arXiv:1810.04805)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from bsm_core import TextBatch, TokenBudget, encode_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _known_type(value: dict[str, Any]) -> dict[str, Any]:
    from transformers import CONFIG_MAPPING

    if value.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(f"model_type {value.get('model_type')!r} is none that transformers knows")
    return value


EncoderConfig = Annotated[dict[str, Any], AfterValidator(_known_type)]
"""The content of a Hugging Face ``config.json``."""


_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "data2vec-text")
"""Types whose positions begin behind the padding token's id."""


def build_encoder(config: dict[str, Any]) -> PreTrainedModel:
    """A transformers ``AutoModel`` with fresh weights; nothing is downloaded and no code of the artifact is run."""
    from transformers import CONFIG_MAPPING, AutoModel

    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    # float32 whatever the config was saved in: a lower precision is the runner's choice, not the file's
    encoder: PreTrainedModel = AutoModel.from_config(settings, dtype=torch.float32)  # type: ignore[no-untyped-call]
    if getattr(encoder, "pooler", None) is None:
        raise ValueError(f"an encoder of type {config['model_type']!r} has no pooler")
    return encoder


def longest_chunk(config: dict[str, Any]) -> int | None:
    """Most tokens of a chunk that the encoder has positions for; None where its positions have no end."""
    positions = config.get("max_position_embeddings")
    if positions is None or config["model_type"] not in _POSITIONS_BEHIND_PADDING:
        return positions
    return int(positions) - int(config.get("pad_token_id") or 1) - 1


class BertTextEncoder(nn.Module):
    """The pooler output of each chunk, mean over the row's chunks, then a Linear.

    Args:
        config: The encoder's ``config.json``.
        output_size: Size ``H`` of a row's vector.
    """

    def __init__(self, config: dict[str, Any], output_size: int) -> None:
        super().__init__()
        self.bert = build_encoder(config)
        self.head_layer = nn.Sequential(nn.Dropout(0.1), nn.Linear(self.bert.config.hidden_size, output_size))
        self.pad_id = config.get("pad_token_id") or 0

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Vectors, float32 ``[rows, output_size]``, encoding at most ``budget`` tokens at once."""
        vectors: Tensor = self.head_layer(encode_rows(text, self._pool, budget, self.pad_id))
        return vectors

    def _pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        output: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return output
