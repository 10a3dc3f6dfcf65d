"""A BERT or RoBERTa of transformers computed without padding, on the CPU or a GPU."""

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
from bsm_plugins_models.encoders.packed.int8 import Quantized, Range
from bsm_plugins_models.encoders.packed.linear import Cast, Packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 2048
"""Tokens at once on the CPU: more no longer fit the cache."""
_TOKENS, _CHUNKS = 32, 8
"""What the tokens and the chunks that are encoded at once are multiples of."""
_ON_CPU = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ON_GPU = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What the kernels for chunks of many lengths take."""
_TYPES = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel")
"""Models of transformers that differ in how they count positions alone."""
_Linears = Mapping[str, Sequence[Any]]
"""Linear layers that read the same, by the name of their product."""
_Products = Callable[[int, _Linears], Mapping[str, Any]]
"""``(number of the layer, linears) -> products``."""
_Watch = Callable[[str, Tensor], None]
_WatchLayer = Callable[[int, str, Tensor], None]


def build(bert: PreTrainedModel, precision: str, sample: TextBatch | None) -> Backend | None:
    """The back end ``"tuned"``; None where this model, device or PyTorch has none, or int8 has no sample to go by."""
    if not _is_plain(bert):
        return None
    if bert.device.type == "cuda" and precision in _ON_GPU:
        dtype, heads = _ON_GPU[precision], bert.config.num_attention_heads
        if not Ragged.runs(bert.config.hidden_size, heads, dtype, bert.device):
            return None
        return Backend("tuned", precision, PackedBert(bert, _in_dtype(Cast, dtype), Ragged))
    if bert.device.type != "cpu" or not Packed.runs(_ON_CPU.get(precision, torch.float32)):
        return None
    if precision in _ON_CPU:
        products = _in_dtype(Packed, _ON_CPU[precision])
    elif precision == "int8" and sample is not None and sample.distinct and Quantized.runs():
        products = _in_int8(bert, sample)
    else:
        return None
    return Backend("tuned", precision, _in_few_shapes(PackedBert(bert, products, ByLength)), TOKENS, in_streams=True)


def _in_few_shapes(encode: PackedBert) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with chunks of padding behind, so that tokens and chunks come in multiples.

    oneDNN makes a kernel for each shape, and keeps a thousand. Making one takes as long as using it a few times.
    """
    multiple = min(_TOKENS, encode.longest)

    def encode_in_few_shapes(tokens: Tensor, lengths: Tensor) -> Tensor:
        single = -(len(lengths) + 1) % _CHUNKS
        last = 1 + -(len(tokens) + single + 1) % multiple
        behind = torch.tensor([1] * single + [last])
        with by_onednn():  # around all of it: what a chunk gives does not depend on who else is at work
            return encode(functional.pad(tokens, (0, single + last)), torch.cat([lengths, behind]))[: len(lengths)]

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


def _unwatched(layer: int, name: str, x: Tensor) -> None:
    """Nobody looks."""


class _Layer:
    """One layer of the encoder.

    Args:
        layer: That of transformers.
        products: Its products, by the names of :attr:`PRODUCTS`.
        heads: Number of heads.
    """

    PRODUCTS: tuple[str, ...] = ("qkv", "out", "up", "down")

    def __init__(self, layer: Any, products: Mapping[str, Any], heads: int) -> None:
        self.products, self.heads = products, heads
        self.norms = (layer.attention.output.LayerNorm, layer.output.LayerNorm)

    def __call__(self, x: Tensor, attention: Attention, watch: _Watch) -> Tensor:
        """``[total, size]`` from the same."""
        watch("qkv", x)
        return self._behind_attention(x, attention(self.products["qkv"](x), self.heads), watch)

    def _behind_attention(self, x: Tensor, gathered: Tensor, watch: _Watch) -> Tensor:
        watch("out", gathered)
        attended = _normed(self.products["out"](gathered, add=x), self.norms[0])
        watch("up", attended)
        inner = self.products["up"](attended, gelu=True)
        watch("down", inner)
        return _normed(self.products["down"](inner, add=attended), self.norms[1])


class _LastLayer(_Layer):
    """The last one, for the first token of each chunk alone: the pooler reads no other."""

    PRODUCTS = ("query", "key_value", "out", "up", "down")

    def first(self, x: Tensor, first: Tensor, attention: Attention, watch: _Watch) -> Tensor:
        """``[chunks, size]`` from ``[total, size]``; ``first`` is where each chunk begins, int64 ``[chunks]``."""
        watch("key_value", x)
        key_value, x = self.products["key_value"](x), x[first]
        gathered = attention.first(self.products["query"](x), key_value, self.heads)
        return self._behind_attention(x, gathered, watch)


class PackedBert:
    """Takes chunks one behind the other; only attention looks at where one ends.

    Args:
        bert: The model, in float32, of one layer or more.
        products: Makes what computes the linear layers of a layer, by name; given its number, too.
        attention: The attention that suits the device.
    """

    def __init__(self, bert: Any, products: _Products, attention: type[Attention]) -> None:
        embeddings = bert.embeddings
        self.words = embeddings.word_embeddings.weight.detach()
        types = embeddings.token_type_embeddings.weight.detach()
        self.positions = embeddings.position_embeddings.weight.detach() + types[0]
        self.padding: int | None = getattr(embeddings, "padding_idx", None)
        self.longest = len(self.positions) - (0 if self.padding is None else self.padding + 1)
        self.norm, self.pooler, self.attention = embeddings.LayerNorm, bert.pooler, attention
        heads, layers = bert.config.num_attention_heads, list(bert.encoder.layer)

        def made(kind: type[_Layer], i: int) -> Any:
            linears = _linears(layers[i])
            return kind(layers[i], products(i, {name: linears[name] for name in kind.PRODUCTS}), heads)

        self.layers: list[_Layer] = [made(_Layer, i) for i in range(len(layers) - 1)]
        self.last: _LastLayer = made(_LastLayer, len(layers) - 1)

    def __call__(self, tokens: Tensor, lengths: Tensor, watch: _WatchLayer = _unwatched) -> Tensor:
        """Pooler outputs of chunks.

        Args:
            tokens: int32 ``[total]``, on the device.
            lengths: int64 ``[chunks]``, on the CPU.
            watch: Is shown what the products of each layer read.

        Returns:
            float32 ``[chunks, size]``.
        """
        starts = lengths.cumsum(0) - lengths
        origins = starts.repeat_interleave(lengths)
        starts, origins = (where.to(tokens.device, non_blocking=True) for where in (starts, origins))
        attention = self.attention(lengths, tokens.device)
        positions = functional.embedding(self._counted(tokens, origins), self.positions)
        hidden = functional.embedding(tokens, self.words) + positions
        hidden = _normed(hidden, self.norm)
        for i, layer in enumerate(self.layers):
            hidden = layer(hidden, attention, partial(watch, i))
        first = self.last.first(hidden, starts, attention, partial(watch, len(self.layers)))
        dense = self.pooler.dense
        return functional.linear(first.float(), dense.weight, dense.bias).tanh()

    def _counted(self, tokens: Tensor, origins: Tensor) -> Tensor:
        """The position of each token, int64 ``[total]``; ``origins`` says where its chunk begins."""
        if self.padding is None:
            return torch.arange(len(tokens), device=tokens.device) - origins
        counts = (tokens != self.padding).long()  # RoBERTa begins behind the padding token, which has no position
        before = counts.cumsum(0) - counts
        return (before - before[origins] + 1) * counts + self.padding


def _normed(x: Tensor, norm: Any) -> Tensor:
    weight, bias = norm.weight, norm.bias
    return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), norm.eps)


def _linears(layer: Any) -> dict[str, list[Any]]:
    """Linear layers that read the same, by the names of products."""
    own = layer.attention.self
    return {
        "qkv": [own.query, own.key, own.value],
        "query": [own.query],
        "key_value": [own.key, own.value],
        "out": [layer.attention.output.dense],
        "up": [layer.intermediate.dense],
        "down": [layer.output.dense],
    }


def _in_dtype(product: type[Packed | Cast], dtype: torch.dtype) -> _Products:
    return lambda i, linears: {name: product(together, dtype) for name, together in linears.items()}


@torch.inference_mode()
def _in_int8(bert: Any, sample: TextBatch) -> _Products:
    """By the ranges that the sample shows in float32. What is computed of few tokens alone stays in float32."""
    exactly = _in_dtype(Packed, torch.float32)
    exact = PackedBert(bert, exactly, ByLength)
    seen: dict[tuple[int, str], Range] = {}
    exact(sample.tokens, sample.chunk_offsets.diff(), lambda i, name, x: seen.update({(i, name): Range.of(x)}))

    def products(i: int, linears: _Linears) -> Mapping[str, Any]:
        if "key_value" in linears:
            quantized = Quantized(linears["key_value"], seen[i, "key_value"], torch.float32)
            return {**exactly(i, linears), "key_value": quantized}
        down = Quantized(linears["down"], seen[i, "down"], torch.float32, smooth=False)
        return {
            "qkv": Quantized(linears["qkv"], seen[i, "qkv"], torch.bfloat16),
            "out": Quantized(linears["out"], seen[i, "out"], torch.float32),
            "up": Quantized(linears["up"], seen[i, "up"], torch.uint8, then=down),
            "down": down,
        }

    return products
