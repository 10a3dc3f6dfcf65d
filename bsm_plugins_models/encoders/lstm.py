"""Bidirectional LSTM (Hochreiter and Schmidhuber, 1997; Graves and Schmidhuber, 2005)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsm_plugins_models.encoders.embedding import EmbeddingConfig
from bsm_plugins_models.limits import Layers


class LstmConfig(EmbeddingConfig):
    """Config keys of a model class with an LSTM."""

    num_layers: Layers = 1


class BidirectionalLstm(nn.LSTM):
    """LSTM that returns the last hidden states of both directions."""

    def __init__(self, size: int, hidden: int, layers: int) -> None:
        super().__init__(size, hidden, layers, batch_first=True, bidirectional=True)

    def forward(self, embedded: Tensor) -> Tensor:  # type: ignore[override]  # one tensor in, one out
        """Return the last states of the last layer, forward and backward, float ``[chunks, 2 * hidden]``.

        Args:
            embedded: Token embeddings, float ``[chunks, length, size]``.
        """
        _, (ends, _) = super().forward(embedded)
        return torch.cat([ends[-2], ends[-1]], dim=1)
