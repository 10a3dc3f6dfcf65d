"""What all text encoders do: a vector for each chunk, the mean over the row's chunks, a last layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from bsm_core import Encoder, TextBatch, TokenBudget
from bsm_plugins_models.encoders.precision import in_precision_of
from bsm_plugins_models.pretrained import Part


class TextEncoder(Encoder):
    """Base of the text encoders; the last layer stays in the precision of its weights whatever encodes."""

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Vectors, float ``[rows, size]``, encoding at most ``budget`` tokens at once."""
        return self.project(in_precision_of(self, self.encode_rows(text, budget)))

    @abstractmethod
    def project(self, means: Tensor) -> Tensor:
        """The last layer: ``[rows, encoded] -> [rows, size]``."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """What can start from pretrained weights, by the config key that describes it, without a field's prefix."""
