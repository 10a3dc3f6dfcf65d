"""A transformers ``BertModel`` computed on the CPU without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from bsm_core import Backend, TextBatch
from bsm_plugins_models.encoders.packed.attention import attend
from bsm_plugins_models.encoders.packed.int8 import Quantized, Range
from bsm_plugins_models.encoders.packed.linear import Packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 2048
"""Tokens at once: more no longer fit the cache."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_Watch = Callable[[str, Tensor], None]


def build(bert: PreTrainedModel, precision: str, sample: TextBatch | None) -> Backend | None:
    """The back end ``"tuned"``; None where this model, device or PyTorch has none, or int8 has no sample to go by."""
    if not _is_plain(bert) or not _has_operators():
        return None
    if precision in _DTYPES:
        return Backend("tuned", precision, PackedBert(bert, _packed_layers(bert, _DTYPES[precision])), TOKENS)
    if precision == "int8" and sample is not None and sample.distinct:
        return Backend("tuned", precision, PackedBert(bert, _quantized_layers(bert, sample)), TOKENS)
    return None


def _is_plain(bert: PreTrainedModel) -> bool:
    config = bert.config
    return (
        type(bert).__name__ == "BertModel"
        and type(bert).__module__.startswith("transformers.")
        and bert.device.type == "cpu"
        and bert.dtype == torch.float32
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )


def _has_operators() -> bool:
    """They are PyTorch's, but not promised: without them it is eager."""
    wanted = {"mkldnn": ("_linear_pointwise", "_reorder_linear_weight"), "onednn": ("qlinear_pointwise",)}
    there = all(hasattr(getattr(torch.ops, where), name) for where, names in wanted.items() for name in names)
    return there and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class _Layer:
    """One layer of the encoder, its four products given."""

    def __init__(self, layer: Any, heads: int, qkv: Any, out: Any, up: Any, down: Any) -> None:
        self.heads, self.qkv, self.out, self.up, self.down = heads, qkv, out, up, down
        self.norms = (layer.attention.output.LayerNorm, layer.output.LayerNorm)

    def __call__(self, x: Tensor, lengths: Tensor, watch: _Watch | None = None) -> Tensor:
        gathered = attend(self.qkv(x), lengths, self.heads)
        attended = _normed(self.out(gathered, add=x), self.norms[0])
        inner = self.up(attended, gelu=True)
        if watch:
            for name, value in zip(("qkv", "out", "up", "down"), (x, gathered, attended, inner), strict=True):
                watch(name, value)
        return _normed(self.down(inner, add=attended), self.norms[1])


class PackedBert:
    """Takes chunks one behind the other; only attention looks at where one ends.

    Args:
        bert: The model, in float32 on the CPU.
        layers: Its layers.
    """

    def __init__(self, bert: Any, layers: list[_Layer]) -> None:
        embeddings = bert.embeddings
        self.words = embeddings.word_embeddings.weight.detach()
        types = embeddings.token_type_embeddings.weight.detach()
        self.positions = embeddings.position_embeddings.weight.detach() + types[0]
        self.norm, self.pooler, self.layers = embeddings.LayerNorm, bert.pooler, layers
        first = layers[0].qkv if layers else None
        self.dtype = first.bias.dtype if isinstance(first, Packed) else torch.float32

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Pooler outputs, float32 ``[chunks, size]``, of int32 ``[total]`` tokens and int64 ``[chunks]`` lengths."""
        hidden = self.embedded(tokens, lengths)
        for layer in self.layers:
            hidden = layer(hidden, lengths)
        return self.pooled(hidden, lengths)

    def embedded(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """What the first layer reads, ``[total, size]``."""
        starts = lengths.cumsum(0) - lengths
        positions = torch.arange(len(tokens)) - starts.repeat_interleave(lengths)
        words = functional.embedding(tokens, self.words)
        return _normed(words + functional.embedding(positions, self.positions), self.norm).to(self.dtype)

    def pooled(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """The pooler reads each chunk's first token."""
        first = hidden[lengths.cumsum(0) - lengths].float()
        dense = self.pooler.dense
        return functional.linear(first, dense.weight, dense.bias).tanh()


def _normed(x: Tensor, norm: Any) -> Tensor:
    weight, bias = norm.weight, norm.bias
    return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), norm.eps)


def _packed_layers(bert: Any, dtype: torch.dtype) -> list[_Layer]:
    return [
        _Layer(layer, bert.config.num_attention_heads, *(Packed(linears, dtype) for linears in _linears(layer)))
        for layer in bert.encoder.layer
    ]


def _linears(layer: Any) -> Iterator[list[Any]]:
    """The layers of the four products: queries, keys and values; what follows attention; up; down."""
    own = layer.attention.self
    yield [own.query, own.key, own.value]
    yield [layer.attention.output.dense]
    yield [layer.intermediate.dense]
    yield [layer.output.dense]


def _quantized_layers(bert: Any, sample: TextBatch) -> list[_Layer]:
    """Layers in int8, by the ranges that the sample shows in float32."""
    layers = _packed_layers(bert, torch.float32)
    return [
        _quantized(layer, bert.config.num_attention_heads, seen)
        for layer, seen in zip(bert.encoder.layer, _ranges(PackedBert(bert, layers), sample), strict=True)
    ]


def _quantized(layer: Any, heads: int, seen: dict[str, Range]) -> _Layer:
    qkv, out, up, down = _linears(layer)
    last = Quantized(down, seen["down"], torch.float32, smooth=False)
    return _Layer(
        layer,
        heads,
        Quantized(qkv, seen["qkv"], torch.bfloat16),
        Quantized(out, seen["out"], torch.float32),
        Quantized(up, seen["up"], torch.uint8, then=last),
        last,
    )


@torch.inference_mode()
def _ranges(bert: PackedBert, sample: TextBatch) -> list[dict[str, Range]]:
    lengths = sample.chunk_offsets.diff()
    hidden = bert.embedded(sample.tokens, lengths)
    seen: list[dict[str, Range]] = []
    for layer in bert.layers:
        seen.append({})
        hidden = layer(hidden, lengths, lambda name, x: seen[-1].update({name: Range.of(x)}))
    return seen
