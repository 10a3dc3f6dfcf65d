"""Encoding chunks of one length at a time, for encoders that mix tokens with the padding after them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def by_length(encode: Callable[[Tensor, Tensor], Tensor], input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return what ``encode`` returns for chunks without padding, in the order of the chunks.

    Args:
        encode: Function from token ids and their mask to a tensor with a row for each chunk.
        input_ids: Token ids with padding after them, int64 ``[chunks, length]``.
        attention_mask: 1 for tokens, 0 for padding; ``[chunks, length]``.
    """
    lengths = attention_mask.sum(1)
    groups = [(length, (lengths == length).nonzero()[:, 0]) for length in sorted(set(lengths.tolist()))]
    encoded = [encode(input_ids[rows, :length], attention_mask[rows, :length]) for length, rows in groups]
    return torch.cat(encoded)[torch.cat([rows for _, rows in groups]).argsort()]
