"""Parts of the transformers models whose layers are those of BERT, by the names that each family gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BERT = (
    *("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "Data2VecTextModel", "ElectraModel"),
    *("ErnieModel", "SplinterModel", "BertGenerationEncoder"),
)
"""Models whose layers have the names of BERT's; they differ in positions and in what is added to token embeddings."""


@dataclass(frozen=True)
class LayerParts:
    """Linear layers and norms of one layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    norm: nn.LayerNorm


@dataclass(frozen=True)
class BertParts:
    """A model whose layers are those of BERT: attention, residual, norm; GELU between two products, residual, norm.

    Attributes:
        words: Token embeddings, ``[vocabulary, size]``.
        positions: Position embeddings, with whatever is added to every token, ``[positions, size]``.
        padding: Token id from which positions are counted, as in RoBERTa; None if they are counted from 0.
        norm: Norm of the embeddings, or None.
        project: Linear layer after the embeddings (ELECTRA), or None.
        layers: The layers.
        heads: Number of heads.
        relative: Attention bias of each distance from a query to a key, ``[heads, 2 * longest - 1]`` (MPNet), or None.
    """

    words: Tensor
    positions: Tensor
    padding: int | None
    norm: nn.LayerNorm
    project: nn.Linear | None
    layers: tuple[LayerParts, ...]
    heads: int
    relative: Tensor | None = None

    @property
    def longest(self) -> int:
        """Largest number of tokens of a chunk."""
        return len(self.positions) - (0 if self.padding is None else self.padding + 1)


def parts_of(bert: PreTrainedModel) -> BertParts | None:
    """Return the parts of a model; None if its layers are not those of BERT, or compute something else."""
    config = bert.config
    name = type(bert).__name__
    if not (type(bert).__module__.startswith("transformers.") and bert.dtype == torch.float32):
        return None
    if getattr(config, "hidden_act", getattr(config, "activation", None)) != "gelu" or config.num_hidden_layers < 1:
        return None
    if name in _BERT:
        plain = getattr(config, "position_embedding_type", "absolute") == "absolute"
        plain = plain and not getattr(config, "is_decoder", False) and not getattr(config, "use_task_id", False)
        return _bert(bert) if plain else None
    if name == "DistilBertModel":
        return _distilbert(bert)
    return _mpnet(bert) if name == "MPNetModel" else None


def _bert(bert: Any) -> BertParts:
    embeddings = bert.embeddings
    positions = embeddings.position_embeddings.weight.detach()
    if hasattr(embeddings, "token_type_embeddings"):
        positions = positions + embeddings.token_type_embeddings.weight.detach()[0]
    layers = tuple(
        LayerParts(
            *(layer.attention.self.query, layer.attention.self.key, layer.attention.self.value),
            *(layer.attention.output.dense, layer.attention.output.LayerNorm),
            *(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm),
        )
        for layer in bert.encoder.layer
    )
    return BertParts(
        embeddings.word_embeddings.weight.detach(),
        positions,
        getattr(embeddings, "padding_idx", None),
        embeddings.LayerNorm,
        getattr(bert, "embeddings_project", None),
        layers,
        bert.config.num_attention_heads,
    )


def _distilbert(bert: Any) -> BertParts:
    embeddings = bert.embeddings
    layers = tuple(
        LayerParts(
            *(layer.attention.q_lin, layer.attention.k_lin, layer.attention.v_lin, layer.attention.out_lin),
            *(layer.sa_layer_norm, layer.ffn.lin1, layer.ffn.lin2, layer.output_layer_norm),
        )
        for layer in bert.transformer.layer
    )
    words, positions = embeddings.word_embeddings.weight.detach(), embeddings.position_embeddings.weight.detach()
    return BertParts(words, positions, None, embeddings.LayerNorm, None, layers, bert.config.n_heads)


def _mpnet(bert: Any) -> BertParts:
    embeddings, encoder = bert.embeddings, bert.encoder
    layers = tuple(
        LayerParts(
            *(layer.attention.attn.q, layer.attention.attn.k, layer.attention.attn.v, layer.attention.attn.o),
            layer.attention.LayerNorm,
            *(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm),
        )
        for layer in encoder.layer
    )
    words, positions = embeddings.word_embeddings.weight.detach(), embeddings.position_embeddings.weight.detach()
    longest = len(positions) - embeddings.padding_idx - 1
    bucket = encoder.relative_position_bucket(torch.arange(1 - longest, longest), num_buckets=32)
    relative = encoder.relative_attention_bias.weight.detach()[bucket.to(words.device)].T
    heads = bert.config.num_attention_heads
    return BertParts(words, positions, embeddings.padding_idx, embeddings.LayerNorm, None, layers, heads, relative)
