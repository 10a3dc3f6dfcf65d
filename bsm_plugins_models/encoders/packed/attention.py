"""Self-attention over chunks that lie one behind the other, without padding.

The CPU takes the chunks of one length at a time, as two batched products. Its softmax is fast on whole vectors and slow
on what is left over, and oneDNN makes a kernel for each shape: so a chunk has a few rows more than its own, up to a
multiple. They are those of the chunk behind it, which are there already, and weigh nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import groupby
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

_VECTOR = 64
"""Bytes of a vector of AVX-512, a multiple of which a row of queries takes; shorter vectors divide it."""

_KEYS = 16
"""What the number of keys is a multiple of."""


class Attention(ABC):
    """Attention of some chunks.

    Args:
        lengths: Tokens of each chunk, int64 ``[chunks]``, on the CPU, longest first.
        device: Where the tokens are.
    """

    @abstractmethod
    def __init__(self, lengths: Tensor, device: torch.device) -> None: ...

    @abstractmethod
    def __call__(self, qkv: Tensor, heads: int) -> Tensor:
        """What each token gathers, ``[tokens, size]``: queries, keys and values come side by side, ``3 * size``."""

    @abstractmethod
    def first(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """What the first token of each chunk gathers, ``[chunks, size]``.

        Args:
            query: ``[chunks, size]``.
            key_value: Side by side, ``[tokens, 2 * size]``.
            heads: Number of heads.
        """


class Ragged(Attention):
    """On a GPU, in bfloat16 or float16, by the kernel that takes chunks of many lengths at once."""

    @classmethod
    def runs(cls, size: int, heads: int, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether this GPU and PyTorch have the kernel for heads of this size, as a trial finds."""
        if torch.cuda.get_device_capability(device) < (8, 0):
            return False
        try:
            cls(torch.tensor([2, 1]), device)(torch.zeros(3, 3 * size, dtype=dtype, device=device), heads)
        except (ImportError, RuntimeError):  # what PyTorch raises for each thing that a kernel does not take
            return False
        return True

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        def bounds(sizes: Tensor) -> Tensor:
            return functional.pad(sizes.cumsum(0), (1, 0)).to(torch.int32).to(device, non_blocking=True)

        self._bounds, self._first = bounds(lengths), bounds(torch.ones_like(lengths))
        self._longest = int(lengths.max())  # on the CPU: the GPU is not waited for

    def __call__(self, qkv: Tensor, heads: int) -> Tensor:
        """See :meth:`Attention.__call__`."""
        q, k, v = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        return self._attend(q, k, v, self._bounds, self._longest)

    def first(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """See :meth:`Attention.first`."""
        k, v = key_value.view(len(key_value), 2, heads, -1).unbind(1)
        return self._attend(query.view(len(query), heads, -1), k, v, self._first, 1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, of_queries: Tensor, most: int) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        gathered = varlen_attn(q, k, v, of_queries, self._bounds, most, self._longest)
        return cast("Tensor", gathered).flatten(1)


class ByLength(Attention):
    """On the CPU, in float32 or bfloat16."""

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        self._runs = [(length, len(list(run))) for length, run in groupby(lengths.tolist())]

    def __call__(self, qkv: Tensor, heads: int) -> Tensor:
        """See :meth:`Attention.__call__`."""
        gathered = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        start = 0
        for length, count in self._runs:
            over = _up(length, _VECTOR // qkv.itemsize) - length
            inside = max(0, min(count, (len(qkv) - over - start) // length))  # nothing lies behind the last chunks
            middle, stop = start + inside * length, start + count * length
            if inside:
                self._attend(qkv[start : middle + over], length, over, heads, gathered[start:middle])
            if inside < count:
                last = functional.pad(qkv[middle:stop], (0, 0, 0, over))
                self._attend(last, length, over, heads, gathered[middle:stop])
            start = stop
        return gathered

    def _attend(self, qkv: Tensor, length: int, over: int, heads: int, into: Tensor) -> None:
        """All chunks of one length, and ``over`` rows behind them."""
        chunks, keys = (len(qkv) - over) // length, _up(length, _KEYS)
        q, k, v = (_part(qkv, i, chunks, heads, length, rows) for i, rows in enumerate((length + over, keys, keys)))
        attend = _by_query if qkv.dtype == torch.float32 else _by_key
        gathered = attend(q, k, v, length).view(chunks, heads, length + over, -1)
        into.view(chunks, length, heads, -1).copy_(gathered[:, :, :length].transpose(1, 2))

    def first(self, query: Tensor, key_value: Tensor, heads: int) -> Tensor:
        """See :meth:`Attention.first`."""
        parts = []
        for length, count in self._runs:
            q, kv = query[:count].view(count, heads, 1, -1), key_value[: count * length]
            query, key_value = query[count:], key_value[count * length :]
            k, v = kv.view(count, length, 2, heads, -1).permute(2, 0, 3, 1, 4).float()
            scores = (q * k).sum(-1, keepdim=True)  # products this thin need no kernel of their own
            weights = (scores * q.shape[3] ** -0.5).softmax(2)
            parts.append((weights * v).sum(2).view(count, -1))
        return torch.cat(parts).to(query.dtype)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _part(qkv: Tensor, which: int, chunks: int, heads: int, length: int, rows: int) -> Tensor:
    """Queries, keys or values, ``[chunks * heads, rows, size of a head]``; what is over the length is the next's."""
    row = qkv.shape[1]
    size = row // 3
    shape, stride = (chunks, heads, rows, size // heads), (length * row, size // heads, row, 1)
    return qkv[:, which * size :].as_strided(shape, stride).reshape(chunks * heads, rows, -1)


def _by_query(q: Tensor, k: Tensor, v: Tensor, length: int) -> Tensor:
    scores = _scores(q, k)
    scores[:, :, length:] = -torch.inf
    return torch.bmm(torch.softmax(scores, -1, out=scores), v)


def _by_key(q: Tensor, k: Tensor, v: Tensor, length: int) -> Tensor:
    """With the scores of a key in a row: bfloat16 is faster so."""
    scores = _scores(k, q)
    scores[:, length:] = -torch.inf
    return torch.bmm(scores.softmax(1).transpose(1, 2), v)


def _scores(a: Tensor, b: Tensor) -> Tensor:
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b.transpose(1, 2), beta=0, alpha=a.shape[2] ** -0.5)
