"""Self-attention over chunks that lie one behind the other, without padding.

The CPU takes the chunks of one length at a time. Its softmax is fast on whole vectors and slow on what is left over, so
a chunk attends to a few rows more than it has, up to a multiple of the size of a vector: those of the chunk behind it,
which are there already. They weigh nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

_LONG = 256
"""From this many tokens on the left-over part does not matter, and a mask costs more than it saves."""


Attend = Callable[[Tensor, int], Tensor]
"""``(queries, keys and values side by side [tokens, 3 * size], heads) -> what each token gathers [tokens, size]``."""


def by_length(lengths: Tensor, device: torch.device) -> Attend:
    """Attention on the CPU, in float32 or bfloat16, of chunks of these lengths, int64 ``[chunks]``, longest first."""
    return partial(_attend_by_length, lengths.tolist())


def ragged(lengths: Tensor, device: torch.device) -> Attend:
    """Attention on a GPU, in bfloat16 or float16, by the kernel that takes chunks of many lengths at once."""
    from torch.nn.attention.varlen import varlen_attn

    bounds = functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32).to(device, non_blocking=True)
    longest = int(lengths.max())  # on the CPU: the GPU is not waited for

    def attend(qkv: Tensor, heads: int) -> Tensor:
        q, k, v = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        gathered = varlen_attn(q, k, v, bounds, bounds, longest, longest)
        return cast("Tensor", gathered).reshape(len(qkv), -1)

    return attend


def _attend_by_length(lengths: Sequence[int], qkv: Tensor, heads: int) -> Tensor:
    total, size = len(qkv), qkv.shape[1] // 3
    gathered = qkv.new_empty(total, size)
    attend_one_length = _fused if qkv.dtype == torch.float32 else _in_two_products
    start = 0
    for length, count in _runs(lengths):
        stop = start + length * count
        seen = _whole_vectors(length, qkv.dtype)
        inside = max(0, min(count, (total - seen - start) // length + 1))  # nothing lies behind the last chunks
        for first, chunks, keys in ((start, inside, seen), (start + inside * length, count - inside, length)):
            if chunks:
                rows = slice(first, first + chunks * length)
                into = gathered[rows].view(chunks, length, heads, size // heads)
                q, k, v = _heads(qkv, first, (chunks, length, keys), heads)
                into.copy_(attend_one_length(q, k, v).transpose(1, 2))
        start = stop
    return gathered


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each length, and how many chunks of it stand together."""
    for length, group in groupby(lengths):
        yield length, len(list(group))


def _whole_vectors(length: int, dtype: torch.dtype) -> int:
    if dtype == torch.float32 and length >= _LONG:
        return length
    vector = 64 // dtype.itemsize  # AVX-512; where vectors are shorter this is a multiple of theirs
    return -(-length // vector) * vector


def _heads(qkv: Tensor, first: int, shape: tuple[int, int, int], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views ``[chunks, heads, length or keys, size of a head]``; keys and values of neighbours overlap."""
    chunks, length, keys = shape
    row = qkv.shape[1]
    size = row // 3
    stride = (length * row, size // heads, row, 1)

    def view(which: int, rows: int) -> Tensor:
        return qkv.as_strided((chunks, heads, rows, size // heads), stride, first * row + which * size)

    return view(0, length), view(1, keys), view(2, keys)


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    length, keys = q.shape[2], k.shape[2]
    mask = None
    if keys > length:
        mask = q.new_zeros(1, 1, 1, keys)
        mask[..., length:] = -torch.inf
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _in_two_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As two batched products, which oneDNN computes in bfloat16 several times faster than the fused kernel."""
    chunks, heads, length, size = q.shape
    q, k, v = (part.reshape(chunks * heads, -1, size) for part in (q, k, v))
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
    if scores.shape[2] > length:
        scores[:, :, length:].fill_(-torch.inf)
    torch.softmax(scores, -1, out=scores)
    return torch.bmm(scores, v).view(chunks, heads, length, size)
