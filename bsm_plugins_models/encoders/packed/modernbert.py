"""ModernBERT (Warner et al., 2024, arXiv:2412.13663), computed without padding on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from bsm_plugins_models.encoders.packed.attention import ByLength, LocalBias
from bsm_plugins_models.encoders.packed.products import (
    Linears,
    MakeProducts,
    mean_of_chunks,
    normed,
    of_attention,
    split,
)
from bsm_plugins_models.encoders.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOCAL = "sliding_attention"


def is_plain_modernbert(bert: PreTrainedModel) -> bool:
    """Return whether a model is a ModernBERT in float32 with GELU and rotary positions that are not scaled."""
    return (
        type(bert).__name__ == "ModernBertModel"
        and type(bert).__module__.startswith("transformers.")
        and bert.dtype == torch.float32
        and bert.config.hidden_activation == "gelu"
        and bert.config.num_hidden_layers > 0
        and all(rope["rope_type"] == "default" for rope in bert.config.rope_parameters.values())
    )


class _GatedLayer:
    """One layer: norm, rotary attention, residual; norm, gated GELU, residual.

    Args:
        layer: The layer of transformers.
        products: Products of the layer, by the names in :func:`_linears`.
        heads: Number of heads.
    """

    def __init__(self, layer: Any, products: Mapping[str, Any], heads: int) -> None:
        self.products, self.heads, self.norms = products, heads, (layer.attn_norm, layer.mlp_norm)
        self.kind: str = layer.attention_type
        # transformers counts the first position outside the window
        self.bias = LocalBias(layer.attn.sliding_window - 1) if self.kind == _LOCAL else None

    def __call__(self, x: Tensor, rotary: _Rotary, attention: ByLength) -> Tensor:
        """Return the hidden states of all tokens after this layer, ``[total, size] -> [total, size]``."""
        qkv = self.products["qkv"](normed(x, self.norms[0]))
        rotary.turn(qkv.view(len(qkv), 3, self.heads, -1)[:, :2])
        return self._after_attention(x, attention(qkv, self.heads, self.bias))

    def first(self, x: Tensor, starts: Tensor, rotary: _Rotary, attention: ByLength) -> Tensor:
        """Return the hidden states of the first tokens after this layer, ``[chunks, size]``.

        Queries of first tokens are not turned: their position is 0.

        Args:
            x: Hidden states of all tokens, ``[total, size]``.
            starts: Position of the first token of each chunk, int64 ``[chunks]``.
            rotary: Rotary positions of all tokens.
            attention: Attention within the chunks.
        """
        inner = normed(x, self.norms[0])
        key_value, query = self.products["key_value"](inner), self.products["query"](inner[starts])
        rotary.turn(key_value.view(len(key_value), 2, self.heads, -1)[:, :1])
        return self._after_attention(x[starts], attention.first(query, key_value, self.heads, self.bias))

    def _after_attention(self, x: Tensor, attention_output: Tensor) -> Tensor:
        x = self.products["out"](attention_output, add=x)
        inner = normed(x, self.norms[1])
        gated: Tensor = self.products["up"](inner, gelu=True).mul_(self.products["gate"](inner))
        result: Tensor = self.products["down"](gated, add=x)
        return result


class _Rotary:
    """Rotary positions of the tokens of a micro-batch (Su et al., 2021, arXiv:2104.09864).

    Args:
        positions: Position of each token in its chunk, int64 ``[total]``.
        frequencies: Frequency of each pair of dimensions, float32 ``[size of a head / 2]``.
    """

    def __init__(self, positions: Tensor, frequencies: Tensor) -> None:
        angles = positions[:, None, None, None] * frequencies
        self._cos, self._sin = angles.cos(), angles.sin()

    def turn(self, states: Tensor) -> None:
        """Turn queries or keys in place, ``[total, 1 or 2, heads, size of a head]``."""
        left, right = states.float().chunk(2, dim=-1)
        turned = torch.cat([left * self._cos - right * self._sin, right * self._cos + left * self._sin], dim=-1)
        states.copy_(turned)


class PackedModernBert:
    """ModernBERT over concatenated chunks without padding.

    Args:
        bert: The model, of which :func:`is_plain_modernbert` is true.
        products: Function that makes the products of a layer.
        pooling: ``"cls"`` or ``"mean"``.
    """

    def __init__(self, bert: Any, products: MakeProducts, pooling: Pooling) -> None:
        self.words, self.norm = bert.embeddings.tok_embeddings.weight.detach(), bert.embeddings.norm
        self.final_norm, self.pooling = bert.final_norm, pooling
        last, heads = len(bert.layers) - 1, bert.config.num_attention_heads
        *self.layers, self.last = (
            _GatedLayer(layer, products(i, _linears(layer, firsts=i == last and pooling == "cls")), heads)
            for i, layer in enumerate(bert.layers)
        )
        kinds = {layer.kind for layer in (*self.layers, self.last)}
        self.frequencies = {kind: getattr(bert.rotary_emb, f"{kind}_inv_freq") for kind in kinds}

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors of chunks, float32 ``[chunks, size]``.

        Args:
            tokens: Token ids of all chunks, int32 ``[total]``.
            lengths: Number of tokens of each chunk, int64 ``[chunks]``.
        """
        starts = lengths.cumsum(0) - lengths
        positions = torch.arange(len(tokens)) - starts.repeat_interleave(lengths)
        rotary = {kind: _Rotary(positions, frequencies) for kind, frequencies in self.frequencies.items()}
        attention = ByLength(lengths, tokens.device)
        hidden = normed(functional.embedding(tokens, self.words), self.norm)
        for layer in self.layers:
            hidden = layer(hidden, rotary[layer.kind], attention)
        own = rotary[self.last.kind]
        if self.pooling == "mean":
            return mean_of_chunks(normed(self.last(hidden, own, attention), self.final_norm), lengths)
        return normed(self.last.first(hidden, starts, own, attention), self.final_norm).float()


def _linears(layer: Any, *, firsts: bool) -> Linears:
    query, key, value = split(layer.attn.Wqkv, 3)
    up, gate = split(layer.mlp.Wi, 2)
    return {
        **of_attention(query, key, value, firsts=firsts),
        "out": [layer.attn.Wo],
        "up": [up],
        "gate": [gate],
        "down": [layer.mlp.Wo],
    }
