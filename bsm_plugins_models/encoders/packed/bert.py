"""A transformers ``BertModel`` computed without padding, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from bsm_core import Backend, TextBatch
from bsm_plugins_models.encoders.packed.attention import Attend, by_length, ragged
from bsm_plugins_models.encoders.packed.int8 import Quantized, Range
from bsm_plugins_models.encoders.packed.linear import Cast, Packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 2048
"""Tokens at once on the CPU: more no longer fit the cache."""
_ON_CPU = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ON_GPU = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What the kernels for chunks of many lengths take."""
_Watch = Callable[[str, Tensor], None]


def build(bert: PreTrainedModel, precision: str, sample: TextBatch | None) -> Backend | None:
    """The back end ``"tuned"``; None where this model, device or PyTorch has none, or int8 has no sample to go by."""
    if not _is_plain(bert):
        return None
    if bert.device.type == "cuda" and precision in _ON_GPU:
        return Backend("tuned", precision, PackedBert(bert, _layers(bert, Cast, _ON_GPU[precision]), ragged))
    if bert.device.type != "cpu" or not _has_operators():
        return None
    if precision in _ON_CPU:
        layers = _layers(bert, Packed, _ON_CPU[precision])
    elif precision == "int8" and sample is not None and sample.distinct:
        layers = _quantized_layers(bert, sample)
    else:
        return None
    return Backend("tuned", precision, PackedBert(bert, layers, by_length), TOKENS, in_streams=True)


def _is_plain(bert: PreTrainedModel) -> bool:
    config = bert.config
    return (
        type(bert).__name__ == "BertModel"
        and type(bert).__module__.startswith("transformers.")
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

    def __call__(self, x: Tensor, attend: Attend, watch: _Watch | None = None) -> Tensor:
        gathered = attend(self.qkv(x), self.heads)
        attended = _normed(self.out(gathered, add=x), self.norms[0])
        inner = self.up(attended, gelu=True)
        if watch:
            for name, value in zip(("qkv", "out", "up", "down"), (x, gathered, attended, inner), strict=True):
                watch(name, value)
        return _normed(self.down(inner, add=attended), self.norms[1])


class PackedBert:
    """Takes chunks one behind the other; only attention looks at where one ends.

    Args:
        bert: The model, in float32.
        layers: Its layers.
        attention: Gives, for the lengths of the chunks, what computes their attention.
    """

    def __init__(self, bert: Any, layers: list[_Layer], attention: Callable[[Tensor, torch.device], Attend]) -> None:
        self.attention = attention
        embeddings = bert.embeddings
        self.words = embeddings.word_embeddings.weight.detach()
        types = embeddings.token_type_embeddings.weight.detach()
        self.positions = embeddings.position_embeddings.weight.detach() + types[0]
        self.norm, self.pooler, self.layers = embeddings.LayerNorm, bert.pooler, layers

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Pooler outputs, float32 ``[chunks, size]``, of int32 ``[total]`` tokens and int64 ``[chunks]`` lengths."""
        hidden = self.hidden(tokens, lengths)
        first = hidden[(lengths.cumsum(0) - lengths).to(hidden.device)].float()
        dense = self.pooler.dense
        return functional.linear(first, dense.weight, dense.bias).tanh()

    def hidden(self, tokens: Tensor, lengths: Tensor, watch: Callable[[int], _Watch] | None = None) -> Tensor:
        """What the last layer gives, ``[total, size]``; ``watch`` is shown what each layer's products read."""
        device = tokens.device
        starts = lengths.cumsum(0) - lengths
        positions = torch.arange(len(tokens)) - starts.repeat_interleave(lengths)
        places = functional.embedding(positions.to(device, non_blocking=True), self.positions)
        hidden = _normed(functional.embedding(tokens, self.words) + places, self.norm)
        attend = self.attention(lengths, device)
        for i, layer in enumerate(self.layers):
            hidden = layer(hidden, attend, watch and watch(i))
        return hidden


def _normed(x: Tensor, norm: Any) -> Tensor:
    weight, bias = norm.weight, norm.bias
    return functional.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), norm.eps)


def _layers(bert: Any, linear: type[Packed | Cast], dtype: torch.dtype) -> list[_Layer]:
    return [
        _Layer(layer, bert.config.num_attention_heads, *(linear(linears, dtype) for linears in _linears(layer)))
        for layer in bert.encoder.layer
    ]


def _linears(layer: Any) -> Iterator[list[Any]]:
    """The layers of the four products: queries, keys and values; what follows attention; up; down."""
    own = layer.attention.self
    yield [own.query, own.key, own.value]
    yield [layer.attention.output.dense]
    yield [layer.intermediate.dense]
    yield [layer.output.dense]


@torch.inference_mode()
def _quantized_layers(bert: Any, sample: TextBatch) -> list[_Layer]:
    """Layers in int8, by the ranges that the sample shows in float32."""
    exact = PackedBert(bert, _layers(bert, Packed, torch.float32), by_length)
    seen: list[dict[str, Range]] = [{} for _ in exact.layers]
    exact.hidden(
        sample.tokens, sample.chunk_offsets.diff(), lambda i: lambda name, x: seen[i].update({name: Range.of(x)})
    )
    heads = bert.config.num_attention_heads
    return [_quantized(layer, heads, ranges) for layer, ranges in zip(bert.encoder.layer, seen, strict=True)]


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
