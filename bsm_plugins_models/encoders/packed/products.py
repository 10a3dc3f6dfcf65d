"""Products of the layers of an encoder, and what all packed encoders share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bsm_plugins_models.encoders.packed.linear import Affine, Cast, Packed

Linears = Mapping[str, Sequence[Affine]]
"""Linear layers that read the same input, by the name of the product that computes them together."""
MakeProducts = Callable[[int, Linears], Mapping[str, Any]]
"""``(index of the layer, linears) -> products by name``."""


@dataclass(frozen=True)
class LinearPart:
    """Some outputs of a linear layer: the interface of ``Affine``."""

    weight: Tensor
    bias: Tensor | None


def split(linear: nn.Linear, parts: int) -> list[LinearPart]:
    """Return equal parts of a linear layer's outputs."""
    weights = linear.weight.chunk(parts)
    biases = [None] * parts if linear.bias is None else linear.bias.chunk(parts)
    return [LinearPart(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def of_attention(query: Affine, key: Affine, value: Affine, *, firsts: bool) -> dict[str, Sequence[Affine]]:
    """Return the linear layers before an attention, by product; ``firsts`` if only first tokens are queries."""
    return {"query": [query], "key_value": [key, value]} if firsts else {"qkv": [query, key, value]}


def in_dtype(product: type[Packed | Cast], dtype: torch.dtype) -> MakeProducts:
    """Return the function that makes products of a dtype."""
    return lambda i, linears: {name: product(together, dtype) for name, together in linears.items()}


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """Apply a LayerNorm in the dtype of ``x``; another module, such as Identity, changes nothing."""
    if not isinstance(norm, nn.LayerNorm):
        return x
    weight, bias = norm.weight.to(x.dtype), None if norm.bias is None else norm.bias.to(x.dtype)
    return functional.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)


def mean_of_chunks(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over the tokens of each chunk, float32 ``[chunks, size]``.

    Args:
        hidden: Hidden states of all tokens, ``[total, size]``.
        lengths: Number of tokens of each chunk, int64 ``[chunks]``, on the CPU.
    """
    return torch.segment_reduce(hidden.float(), "mean", lengths=lengths.to(hidden.device), axis=0, unsafe=True)
