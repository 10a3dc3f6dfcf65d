"""What all text encoders do: a vector for each chunk, the mean over the row's chunks, a last layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from bsm_core import TextBatch, TokenBudget, encode_rows
from bsm_plugins_models.encoders.precision import in_precision_of
from bsm_plugins_models.pretrained import Part


class TextEncoder(nn.Module):
    """Base of the text encoders.

    Attributes:
        pad_id: Id of the padding token.
        length: Every chunk is padded or cut to this many tokens; where None, to the longest of its micro-batch.
    """

    pad_id: int = 0
    length: int | None = None

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Vectors, float ``[rows, size]``, encoding at most ``budget`` tokens at once."""
        means = encode_rows(text, self.encode, budget, self.pad_id, self.length)
        return self.project(in_precision_of(self, means))

    @abstractmethod
    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors of chunks, float ``[chunks, encoded]``, from two int64 ``[chunks, length]``."""

    @abstractmethod
    def project(self, means: Tensor) -> Tensor:
        """The last layer: ``[rows, encoded] -> [rows, size]``."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """What can start from pretrained weights, by the config key that describes it, without a field's prefix."""
