"""Encoders whose layers are those of BERT, computed without padding on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bsm_core import TextBatch
from bsm_plugins_models.encoders.packed.attention import Attention, AttentionBias, ByLength, RelativeBias
from bsm_plugins_models.encoders.packed.families import BertParts, LayerParts
from bsm_plugins_models.encoders.packed.int8 import Quantized, Range, range_of
from bsm_plugins_models.encoders.packed.linear import Packed
from bsm_plugins_models.encoders.packed.products import (
    Linears,
    MakeProducts,
    in_dtype,
    mean_of_chunks,
    normed,
    of_attention,
)
from bsm_plugins_models.encoders.pooling import Pooling


class _Layer:
    """One layer of the encoder.

    Args:
        layer: Its parts.
        products: Products of the layer, by the names in :func:`_linears`.
        heads: Number of heads.
        bias: What is added to the scores of the attention; None for nothing.
    """

    def __init__(
        self, layer: LayerParts, products: Mapping[str, Any], heads: int, bias: AttentionBias | None = None
    ) -> None:
        self.products, self.heads, self.bias = products, heads, bias
        self.norms = (layer.attention_norm, layer.norm)

    def __call__(self, x: Tensor, attention: Attention) -> Tensor:
        """Return the hidden states of all tokens after this layer, ``[total, size] -> [total, size]``."""
        return self._after_attention(x, attention(self.products["qkv"](x), self.heads, self.bias))

    def first(self, x: Tensor, starts: Tensor, attention: Attention) -> Tensor:
        """Return the hidden states of the first tokens after the last layer, ``[chunks, size]``.

        The pooler and the pooling ``cls`` read no other token.

        Args:
            x: Hidden states of all tokens, ``[total, size]``.
            starts: Position of the first token of each chunk, int64 ``[chunks]``.
            attention: Attention within the chunks.
        """
        key_value, x = self.products["key_value"](x), x[starts]
        return self._after_attention(x, attention.first(self.products["query"](x), key_value, self.heads, self.bias))

    def _after_attention(self, x: Tensor, attention_output: Tensor) -> Tensor:
        attended = normed(self.products["out"](attention_output, add=x), self.norms[0])
        inner = self.products["up"](attended, gelu=True)
        return normed(self.products["down"](inner, add=attended), self.norms[1])


class PackedBert:
    """Encoder over concatenated chunks without padding; only attention and positions depend on the chunks' bounds.

    Args:
        bert: The model, in float32, with at least one layer.
        parts: Its parts.
        products: Function that makes the products of a layer.
        attention: Attention class for the device.
        pooling: How the tokens of a chunk are pooled.
    """

    def __init__(
        self,
        bert: Any,
        parts: BertParts,
        products: MakeProducts,
        attention: type[Attention],
        pooling: Pooling = "pooler",
    ) -> None:
        self.words, self.positions, self.padding = parts.words, parts.positions, parts.padding
        self.norm, self.project, self.attention, self.pooling = parts.norm, parts.project, attention, pooling
        self.pooler = bert.pooler.dense if pooling == "pooler" else None
        bias = None if parts.relative is None else RelativeBias(parts.relative)
        last = len(parts.layers) - 1
        *self.layers, self.last = (
            _Layer(layer, products(i, _linears(layer, firsts=i == last and pooling != "mean")), parts.heads, bias)
            for i, layer in enumerate(parts.layers)
        )

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors of chunks.

        Args:
            tokens: Token ids of all chunks, int32 ``[total]``, on the device.
            lengths: Number of tokens of each chunk, int64 ``[chunks]``, on the CPU.

        Returns:
            float32 ``[chunks, size]``.
        """
        starts = lengths.cumsum(0) - lengths
        start_of_token = starts.repeat_interleave(lengths)
        starts, start_of_token = (x.to(tokens.device, non_blocking=True) for x in (starts, start_of_token))
        attention = self.attention(lengths, tokens.device)
        positions = functional.embedding(self._positions(tokens, start_of_token), self.positions)
        hidden = functional.embedding(tokens, self.words) + positions
        hidden = normed(hidden, self.norm)
        if self.project is not None:
            hidden = functional.linear(hidden, self.project.weight, self.project.bias)
        for layer in self.layers:
            hidden = layer(hidden, attention)
        if self.pooling == "mean":
            return mean_of_chunks(self.last(hidden, attention), lengths)
        first = self.last.first(hidden, starts, attention).float()
        if self.pooler is None:
            return first
        return functional.linear(first, self.pooler.weight, self.pooler.bias).tanh()

    def _positions(self, tokens: Tensor, start_of_token: Tensor) -> Tensor:
        """Return the position of each token for the position embeddings, int64 ``[total]``.

        Args:
            tokens: Token ids, int32 ``[total]``.
            start_of_token: Index of the first token of each token's chunk, int64 ``[total]``.
        """
        if self.padding is None:
            return torch.arange(len(tokens), device=tokens.device) - start_of_token
        # RoBERTa counts from padding_idx + 1 and does not count padding tokens, whose position is padding_idx.
        counts = (tokens != self.padding).long()
        before = counts.cumsum(0) - counts
        return (before - before[start_of_token] + 1) * counts + self.padding


def _linears(layer: LayerParts, *, firsts: bool) -> Linears:
    """Return the linear layers of a layer, by the name of the product that computes them.

    If only the first tokens are needed, queries are computed by a product of their own, for these tokens.
    """
    return {
        **of_attention(layer.query, layer.key, layer.value, firsts=firsts),
        "out": [layer.out],
        "up": [layer.up],
        "down": [layer.down],
    }


@torch.inference_mode()
def int8_products(bert: Any, parts: BertParts, sample: TextBatch, pooling: Pooling) -> MakeProducts:
    """Make int8 products, with scales from the activations of the sample in float32.

    Products that are computed for the first tokens only stay in float32.
    """
    in_fp32 = in_dtype(Packed, torch.float32)
    ranges: dict[tuple[int, str], Range] = {}

    def observed(key: tuple[int, str], product: Packed, x: Tensor, **then: Any) -> Tensor:
        ranges[key] = range_of(x)
        return product(x, **then)

    def observed_products(i: int, linears: Linears) -> Mapping[str, Any]:
        return {name: partial(observed, (i, name), product) for name, product in in_fp32(i, linears).items()}

    PackedBert(bert, parts, observed_products, ByLength, pooling)(sample.tokens, sample.chunk_offsets.diff())

    def products(i: int, linears: Linears) -> Mapping[str, Any]:
        if "key_value" in linears:
            key_value = Quantized(linears["key_value"], ranges[i, "key_value"], torch.float32)
            return {**in_fp32(i, linears), "key_value": key_value}
        down = Quantized(linears["down"], ranges[i, "down"], torch.float32, smooth=False)
        return {
            "qkv": Quantized(linears["qkv"], ranges[i, "qkv"], torch.bfloat16),
            "out": Quantized(linears["out"], ranges[i, "out"], torch.float32),
            "up": Quantized(linears["up"], ranges[i, "up"], torch.uint8, then=down),
            "down": down,
        }

    return products
