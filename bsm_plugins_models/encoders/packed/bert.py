"""BERT and RoBERTa of transformers, computed without padding on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from bsm_core import Backend, TextBatch
from bsm_plugins_models.encoders.packed.attention import Attention, ByLength, Ragged
from bsm_plugins_models.encoders.packed.float32 import by_onednn
from bsm_plugins_models.encoders.packed.int8 import Quantized, Range, range_of
from bsm_plugins_models.encoders.packed.linear import Cast, Packed
from bsm_plugins_models.encoders.pooling import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "tuned"
TOKENS = 2048
"""Tokens at once on the CPU; more tokens do not fit into the processor's cache."""
_TOKEN_MULTIPLE, _CHUNK_MULTIPLE = 32, 8
"""Numbers of which the tokens and the chunks of a micro-batch are multiples."""
_ON_CPU = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ON_GPU = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Dtypes that the attention kernel for sequences of different lengths supports."""
_TYPES = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel")
"""Models of transformers that differ only in the positions of tokens."""
_Linears = Mapping[str, Sequence[Any]]
"""Linear layers that read the same input, by the name of the product that computes them together."""
_MakeProducts = Callable[[int, _Linears], Mapping[str, Any]]
"""``(index of the layer, linears) -> products by name``."""


def build(
    bert: PreTrainedModel, precision: str, sample: TextBatch | None, pooling: Pooling = "pooler"
) -> Backend | None:
    """Build the backend ``"tuned"`` of a transformers model.

    Args:
        bert: The model, on its device.
        precision: fp32, bf16 or int8 on the CPU; bf16 or fp16 on a GPU.
        sample: Chunks to calibrate int8 with.
        pooling: How the tokens of a chunk are pooled.

    Returns:
        The backend; None if it does not support the model, the device, this version of PyTorch, or the precision, or
        for int8 without a sample.
    """
    if pooling != "pooler" or not _is_plain(bert):
        return None
    if bert.device.type == "cuda" and precision in _ON_GPU:
        dtype, heads = _ON_GPU[precision], bert.config.num_attention_heads
        if not Ragged.runs(bert.config.hidden_size, heads, dtype, bert.device):
            return None
        return Backend(NAME, precision, PackedBert(bert, _in_dtype(Cast, dtype), Ragged))
    if bert.device.type != "cpu" or not Packed.runs(_ON_CPU.get(precision, torch.float32)):
        return None
    if precision in _ON_CPU:
        products = _in_dtype(Packed, _ON_CPU[precision])
    elif precision == "int8" and sample is not None and sample.distinct and Quantized.runs():
        products = _in_int8(bert, sample)
    else:
        return None
    encode = _in_few_shapes(PackedBert(bert, products, ByLength))
    return Backend(NAME, precision, encode, TOKENS, in_streams=True, alone=True)  # by_onednn changes the process


def _in_few_shapes(encode: PackedBert) -> Callable[[Tensor, Tensor], Tensor]:
    """Append chunks of padding, so that the numbers of tokens and chunks are multiples.

    oneDNN compiles a kernel for each shape, which takes as long as a few runs of it, and keeps at most a thousand.
    """
    multiple = min(_TOKEN_MULTIPLE, encode.longest)

    def encode_in_few_shapes(tokens: Tensor, lengths: Tensor) -> Tensor:
        single = -(len(lengths) + 1) % _CHUNK_MULTIPLE
        last = 1 + -(len(tokens) + single + 1) % multiple
        padding = torch.tensor([1] * single + [last])
        with by_onednn():  # around the whole call, so that no other thread changes the setting halfway
            return encode(functional.pad(tokens, (0, single + last)), torch.cat([lengths, padding]))[: len(lengths)]

    return encode_in_few_shapes


def _is_plain(bert: PreTrainedModel) -> bool:
    config = bert.config
    return (
        type(bert).__name__ in _TYPES
        and type(bert).__module__.startswith("transformers.")
        and bert.dtype == torch.float32
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
        and config.num_hidden_layers > 0
    )


class _Layer:
    """One layer of the encoder.

    Args:
        layer: The layer of transformers.
        products: Products of the layer, by the names in :func:`_linears`.
        heads: Number of heads.
    """

    def __init__(self, layer: Any, products: Mapping[str, Any], heads: int) -> None:
        self.products, self.heads = products, heads
        self.norms = (layer.attention.output.LayerNorm, layer.output.LayerNorm)

    def __call__(self, x: Tensor, attention: Attention) -> Tensor:
        """Return the hidden states of all tokens after this layer, ``[total, size] -> [total, size]``."""
        return self._after_attention(x, attention(self.products["qkv"](x), self.heads))

    def first(self, x: Tensor, starts: Tensor, attention: Attention) -> Tensor:
        """Return the hidden states of the first tokens after the last layer, ``[chunks, size]``.

        The pooler reads no other token.

        Args:
            x: Hidden states of all tokens, ``[total, size]``.
            starts: Position of the first token of each chunk, int64 ``[chunks]``.
            attention: Attention within the chunks.
        """
        key_value, x = self.products["key_value"](x), x[starts]
        return self._after_attention(x, attention.first(self.products["query"](x), key_value, self.heads))

    def _after_attention(self, x: Tensor, attention_output: Tensor) -> Tensor:
        attended = _normed(self.products["out"](attention_output, add=x), self.norms[0])
        inner = self.products["up"](attended, gelu=True)
        return _normed(self.products["down"](inner, add=attended), self.norms[1])


class PackedBert:
    """BERT over concatenated chunks without padding; only attention and positions depend on the bounds of the chunks.

    Args:
        bert: The model, in float32, with at least one layer.
        products: Function that makes the products of a layer.
        attention: Attention class for the device.
    """

    def __init__(self, bert: Any, products: _MakeProducts, attention: type[Attention]) -> None:
        embeddings = bert.embeddings
        self.words = embeddings.word_embeddings.weight.detach()
        types = embeddings.token_type_embeddings.weight.detach()
        self.positions = embeddings.position_embeddings.weight.detach() + types[0]
        self.padding: int | None = getattr(embeddings, "padding_idx", None)
        self.longest = len(self.positions) - (0 if self.padding is None else self.padding + 1)
        self.norm, self.pooler, self.attention = embeddings.LayerNorm, bert.pooler, attention
        heads, layers = bert.config.num_attention_heads, bert.encoder.layer
        *self.layers, self.last = (
            _Layer(layer, products(i, _linears(layer, last=i == len(layers) - 1)), heads)
            for i, layer in enumerate(layers)
        )

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the pooler outputs of chunks.

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
        hidden = _normed(hidden, self.norm)
        for layer in self.layers:
            hidden = layer(hidden, attention)
        first = self.last.first(hidden, starts, attention)
        dense = self.pooler.dense
        return functional.linear(first.float(), dense.weight, dense.bias).tanh()

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


def _normed(x: Tensor, norm: Any) -> Tensor:
    weight, bias = norm.weight, norm.bias
    return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), norm.eps)


def _linears(layer: Any, *, last: bool) -> _Linears:
    """Return the linear layers of a layer of transformers, by the name of the product that computes them.

    In the last layer, queries are computed by a product of their own, for the first tokens only.
    """
    own = layer.attention.self
    whole = {"qkv": [own.query, own.key, own.value]}
    return {
        **({"query": [own.query], "key_value": [own.key, own.value]} if last else whole),
        "out": [layer.attention.output.dense],
        "up": [layer.intermediate.dense],
        "down": [layer.output.dense],
    }


def _in_dtype(product: type[Packed | Cast], dtype: torch.dtype) -> _MakeProducts:
    return lambda i, linears: {name: product(together, dtype) for name, together in linears.items()}


@torch.inference_mode()
def _in_int8(bert: Any, sample: TextBatch) -> _MakeProducts:
    """Make int8 products, with scales from the activations of the sample in float32.

    Products that are computed for the first tokens only stay in float32.
    """
    in_fp32 = _in_dtype(Packed, torch.float32)
    ranges: dict[tuple[int, str], Range] = {}

    def observed(key: tuple[int, str], product: Packed, x: Tensor, **then: Any) -> Tensor:
        ranges[key] = range_of(x)
        return product(x, **then)

    def observed_products(i: int, linears: _Linears) -> Mapping[str, Any]:
        return {name: partial(observed, (i, name), product) for name, product in in_fp32(i, linears).items()}

    PackedBert(bert, observed_products, ByLength)(sample.tokens, sample.chunk_offsets.diff())

    def products(i: int, linears: _Linears) -> Mapping[str, Any]:
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
