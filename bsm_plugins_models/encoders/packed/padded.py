"""Encoders of any family on the CPU: transformers' own code, padded, with packed products in place of its own."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bsm_plugins_models.encoders.hugging_face import PADDING_COUNTS
from bsm_plugins_models.encoders.packed.float32 import by_onednn
from bsm_plugins_models.encoders.packed.linear import Packed
from bsm_plugins_models.encoders.pooling import Pooling, pooled

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PackedLinear(nn.Module):
    """Linear layer with a packed product, float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features, self._product = linear.out_features, Packed([linear], torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[..., out]`` for ``[..., in]``."""
        return self._product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], self.out_features)


class PaddedEncoder:
    """Encoder that pads a micro-batch to its longest chunk; chunks come sorted by length, so there is little padding.

    Args:
        bert: The model, in float32.
        pooling: How the tokens of a chunk are pooled.
    """

    def __init__(self, bert: PreTrainedModel, pooling: Pooling) -> None:
        self._model, self._pooling = _with_packed_products(bert), pooling
        self._pad = getattr(bert.config, "pad_token_id", None) or 0
        self._one_length = bert.config.model_type in PADDING_COUNTS

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors of chunks, float32 ``[chunks, size]``.

        Args:
            tokens: Token ids of all chunks, int32 ``[total]``.
            lengths: Number of tokens of each chunk, the longest first; int64 ``[chunks]``.
        """
        chunks = list(torch.split(tokens.long(), lengths.tolist()))
        sizes = [len(list(group)) for _, group in groupby(lengths.tolist())] if self._one_length else [len(chunks)]
        vectors, start = [], 0
        with by_onednn():
            for size in sizes:
                vectors.append(self._encode(chunks[start : start + size], lengths[start : start + size]))
                start += size
        return torch.cat(vectors).float()

    def _encode(self, chunks: list[Tensor], lengths: Tensor) -> Tensor:
        ids = pad_sequence(chunks, batch_first=True, padding_value=self._pad)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return pooled(self._model(input_ids=ids, attention_mask=mask), mask, self._pooling)


def _with_packed_products(bert: PreTrainedModel) -> Any:
    """Return a copy of the model that shares its weights, but for linear layers, which are packed."""
    shared: dict[int, Any] = {id(value): value for value in (*bert.parameters(), *bert.buffers())}
    for module in bert.modules():
        if type(module) is nn.Linear:
            shared[id(module)] = PackedLinear(module)
    return copy.deepcopy(bert, shared)
