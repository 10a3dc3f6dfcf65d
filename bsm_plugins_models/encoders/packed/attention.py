"""Self-attention over concatenated chunks, without padding.

On the CPU, chunks of equal length are attended together with two batched matrix products. Softmax is fast on whole
vector registers and slow on the rest of a row, and oneDNN compiles a kernel for each shape. So each chunk is extended
to a multiple of a vector register. The added rows are those of the next chunk; their attention weight is zero.
"""

from __future__ import annotations

from itertools import groupby
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional

_VECTOR = 64
"""Bytes of an AVX-512 register. The queries of a chunk fill a multiple of it; shorter registers divide it."""

_KEYS = 16
"""The number of keys is rounded up to a multiple of this."""


class AttentionBias(Protocol):
    """Numbers added to the scores of queries and keys, by their distance."""

    def within(self, queries: int, keys: int) -> Tensor | None:
        """Return the bias of the first positions of a chunk, float32 ``[heads, queries, keys]``.

        The first dimension is 1 if all heads have the same; None stands for zeros.
        """


class RelativeBias:
    """Bias of each distance from a query to a key.

    Args:
        table: Bias from the most negative distance to the largest one, float32 ``[heads, 2 * longest - 1]``.
    """

    def __init__(self, table: Tensor) -> None:
        self._table, self._longest = table.contiguous(), (table.shape[1] + 1) // 2

    def within(self, queries: int, keys: int) -> Tensor | None:
        """See :meth:`AttentionBias.within`."""
        farthest = self._longest - 1  # rows that only fill a vector register may be farther
        distance = (torch.arange(keys) - torch.arange(queries)[:, None]).clamp(-farthest, farthest)
        return self._table[:, distance + farthest]


class LocalBias:
    """Bias that keeps each query from keys farther away than ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most

    def within(self, queries: int, keys: int) -> Tensor | None:
        """See :meth:`AttentionBias.within`."""
        if max(queries, keys) <= self._most + 1:
            return None
        far = (torch.arange(keys) - torch.arange(queries)[:, None]).abs() > self._most
        return torch.zeros(1, queries, keys).masked_fill_(far, -torch.inf)


class ByLength:
    """Attention within each chunk of a micro-batch, on the CPU, in float32 or bfloat16.

    Chunks of equal length are attended together.

    Args:
        lengths: Number of tokens of each chunk, the longest first; int64 ``[chunks]``, on the CPU.
        device: Device of the tokens.
    """

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        self._groups = [(length, len(list(group))) for length, group in groupby(lengths.tolist())]
        self._biases: dict[tuple[AttentionBias, int, int], Tensor | None] = {}

    def __call__(self, qkv: Tensor, heads: int, bias: AttentionBias | None = None) -> Tensor:
        """Return the attention output of each token, ``[tokens, size]``.

        Args:
            qkv: Queries, keys and values, concatenated: ``[tokens, 3 * size]``.
            heads: Number of heads.
            bias: What is added to the scores; None for nothing.
        """
        output = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        start = 0
        for length, count in self._groups:
            extra = _round_up(length, _VECTOR // qkv.itemsize) - length
            # The last chunks of the micro-batch have no `extra` rows after them in memory, so they are padded.
            inside = max(0, min(count, (len(qkv) - extra - start) // length))
            middle, stop = start + inside * length, start + count * length
            if inside:
                self._attend(qkv[start : middle + extra], length, extra, heads, output[start:middle], bias)
            if inside < count:
                last = functional.pad(qkv[middle:stop], (0, 0, 0, extra))
                self._attend(last, length, extra, heads, output[middle:stop], bias)
            start = stop
        return output

    def _attend(
        self, qkv: Tensor, length: int, extra: int, heads: int, into: Tensor, bias: AttentionBias | None
    ) -> None:
        """Attend chunks of one length, with ``extra`` rows after the last chunk, and write the output to ``into``."""
        chunks, keys = (len(qkv) - extra) // length, _round_up(length, _KEYS)
        q, k, v = (_by_head(qkv, i, chunks, heads, length, rows) for i, rows in enumerate((length + extra, keys, keys)))
        attend = _by_query if qkv.dtype == torch.float32 else _by_key
        added = self._bias(bias, length + extra, keys)
        output = attend(q, k, v, length, added).view(chunks, heads, length + extra, -1)
        into.view(chunks, length, heads, -1).copy_(output[:, :, :length].transpose(1, 2))

    def _bias(self, bias: AttentionBias | None, queries: int, keys: int) -> Tensor | None:
        """Return the bias of chunks of one length, which the layers of a micro-batch share."""
        if bias is None:
            return None
        key = (bias, queries, keys)
        if key not in self._biases:
            self._biases[key] = bias.within(queries, keys)
        return self._biases[key]

    def first(self, query: Tensor, key_value: Tensor, heads: int, bias: AttentionBias | None = None) -> Tensor:
        """Return the attention output of the first token of each chunk, ``[chunks, size]``.

        Args:
            query: Queries of the first tokens, ``[chunks, size]``.
            key_value: Keys and values of all tokens, concatenated: ``[tokens, 2 * size]``.
            heads: Number of heads.
            bias: As in :meth:`__call__`.
        """
        outputs = []
        for length, count in self._groups:
            q, kv = query[:count].view(count, heads, 1, -1), key_value[: count * length]
            query, key_value = query[count:], key_value[count * length :]
            k, v = kv.view(count, length, 2, heads, -1).permute(2, 0, 3, 1, 4).float()
            scores = (q * k).sum(-1, keepdim=True) * q.shape[3] ** -0.5  # one row each: too thin for a matrix product
            if bias is not None and (added := bias.within(1, length)) is not None:
                scores += added.transpose(1, 2)
            weights = scores.softmax(2)
            outputs.append((weights * v).sum(2).view(count, -1))
        return torch.cat(outputs).to(query.dtype)


class Ragged:
    """Attention on a GPU, in bfloat16 or float16, with PyTorch's kernel for sequences of different lengths.

    The interface is that of :class:`ByLength`, but ``bias`` must be None: the kernel adds nothing to the scores.
    """

    @classmethod
    def runs(cls, size: int, heads: int, dtype: torch.dtype, device: torch.device) -> bool:
        """Check by a trial run whether this GPU and PyTorch have the kernel for heads of this size."""
        if torch.cuda.get_device_capability(device) < (8, 0):
            return False
        try:
            cls(torch.tensor([2, 1]), device)(torch.zeros(3, 3 * size, dtype=dtype, device=device), heads)
        except (ImportError, RuntimeError):  # RuntimeError: the kernel does not support the dtype or the size
            return False
        return True

    def __init__(self, lengths: Tensor, device: torch.device) -> None:
        def bounds(sizes: Tensor) -> Tensor:
            return functional.pad(sizes.cumsum(0), (1, 0)).to(torch.int32).to(device, non_blocking=True)

        self._bounds, self._first = bounds(lengths), bounds(torch.ones_like(lengths))
        self._longest = int(lengths.max())  # lengths are on the CPU, so this does not wait for the GPU

    def __call__(self, qkv: Tensor, heads: int, bias: AttentionBias | None = None) -> Tensor:
        """See :meth:`ByLength.__call__`."""
        q, k, v = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        _check_no_bias(bias)
        return self._attend(q, k, v, self._bounds, self._longest)

    def first(self, query: Tensor, key_value: Tensor, heads: int, bias: AttentionBias | None = None) -> Tensor:
        """See :meth:`ByLength.first`."""
        k, v = key_value.view(len(key_value), 2, heads, -1).unbind(1)
        _check_no_bias(bias)
        return self._attend(query.view(len(query), heads, -1), k, v, self._first, 1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, query_bounds: Tensor, longest_query: int) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        output = varlen_attn(q, k, v, query_bounds, self._bounds, longest_query, self._longest)
        return cast("Tensor", output).flatten(1)


Attention: TypeAlias = ByLength | Ragged
"""Attention within each chunk, on the CPU or on a GPU."""


def _check_no_bias(bias: AttentionBias | None) -> None:
    if bias is not None:
        raise ValueError("this attention adds nothing to the scores; use ByLength for relative or local positions")


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _by_head(qkv: Tensor, which: int, chunks: int, heads: int, length: int, rows: int) -> Tensor:
    """Copy the queries (``which`` 0), keys (1) or values (2) by head: ``[chunks * heads, rows, size of a head]``.

    Rows past ``length`` belong to the next chunk; their attention weight is zero.
    """
    row = qkv.shape[1]
    size = row // 3
    shape, stride = (chunks, heads, rows, size // heads), (length * row, size // heads, row, 1)
    return qkv[:, which * size :].as_strided(shape, stride).reshape(chunks * heads, rows, -1)


def _by_query(q: Tensor, k: Tensor, v: Tensor, length: int, bias: Tensor | None) -> Tensor:
    scores = _scores(q, k)
    if bias is not None:
        scores.view(-1, *bias.shape).add_(bias)
    scores[:, :, length:] = -torch.inf
    return torch.bmm(torch.softmax(scores, -1, out=scores), v)


def _by_key(q: Tensor, k: Tensor, v: Tensor, length: int, bias: Tensor | None) -> Tensor:
    """Attend with the transposed scores, one row for each key, which is faster in bfloat16."""
    scores = _scores(k, q)
    if bias is not None:
        scores.view(-1, len(bias), *scores.shape[1:]).add_(bias.transpose(1, 2))
    scores[:, length:] = -torch.inf
    return torch.bmm(scores.softmax(1).transpose(1, 2), v)


def _scores(a: Tensor, b: Tensor) -> Tensor:
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b.transpose(1, 2), beta=0, alpha=a.shape[2] ** -0.5)
