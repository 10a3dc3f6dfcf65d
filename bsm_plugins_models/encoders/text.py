"""Base class of the built-in text encoders: encode each chunk, average over a row's chunks, apply a last layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from bsm_core import Encoder, TextBatch, TokenBudget
from bsm_plugins_models.encoders.precision import in_precision_of
from bsm_plugins_models.pretrained import PretrainedModule


class TextEncoder(Encoder):
    """Text encoder with a last layer, which is computed in the dtype of its weights, whatever the backend is."""

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Return vectors, float ``[rows, size]``; at most ``budget`` tokens are encoded at once."""
        return self.project(self.row_vectors(text, budget))

    def row_vectors(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Return what the last layer reads, ``[rows, encoded]``: the mean of each row's chunks."""
        return in_precision_of(self, self.encode_rows(text, budget))

    @abstractmethod
    def project(self, means: Tensor) -> Tensor:
        """Apply the last layer, ``[rows, encoded] -> [rows, size]``."""

    @abstractmethod
    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the modules that can load pretrained weights, by config key without ``primary_`` or ``secondary_``."""
