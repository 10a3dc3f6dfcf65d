"""The base class of text encoders, and the back ends that can compute one.

A *back end* is a way to compute the same vectors: ``eager`` is the encoder's own PyTorch code, and an encoder may offer
faster ones. Which one runs, and in what precision, is chosen once, before the first window, by
:mod:`bsm_core.backends.choose`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsm_core.models.batch import EncodeRagged, TextBatch, TokenBudget, encode_ragged_rows, encode_rows

EAGER = "eager"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What an encoder's products are computed in, by the name of the setting; ``int8`` is no dtype of weights."""

MOST_STREAMS = 16
"""Threads of Python that prepare operations for each other's cores; more would wait for the interpreter."""


@dataclass(frozen=True)
class Backend:
    """One way to compute an encoder, ready to run.

    Attributes:
        name: The name ``--backend`` gives it.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``.
        encode: Takes chunks without padding; None for the encoder's own ``encode``.
        tokens: Tokens at once that suit it.
        in_streams: Whether several micro-batches at once, on a thread each, suit it better than one on all threads.
    """

    name: str
    precision: str
    encode: EncodeRagged | None = None
    tokens: int = 2**31
    in_streams: bool = False


BuildBackend = Callable[[str, TextBatch | None], Backend | None]
"""``(precision, sample) -> backend``: None where it cannot be had here; the sample is of the rows to calibrate with."""


class Encoder(nn.Module):
    """Base of text encoders, called with ``(text, budget)``: a vector for each chunk, and their mean for each row.

    Attributes:
        pad_id: Id of the padding token.
        length: Every chunk is padded or cut to this many tokens; where None, to the longest of its micro-batch.
        longest: Most tokens of a chunk that it has positions for; None where there is no end.
        vocabulary: Number of token ids it knows.
        backend: What computes it, with the weights it had then. Whatever wants gradients is always eager.
        exported: The ONNX file that ``bsm export`` wrote for it; None where the artifact has none.
    """

    pad_id: int = 0
    length: int | None = None
    longest: int | None = None
    vocabulary: int = 1
    backend = Backend(EAGER, "fp32")
    exported: Path | None = None

    @abstractmethod
    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors of chunks, float ``[chunks, encoded]``, from two int64 ``[chunks, length]``."""

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """As :meth:`row_means`; a subclass may have a last layer behind it."""
        return self.row_means(text, budget)

    def backends(self) -> Mapping[str, BuildBackend]:
        """Faster back ends, by name; none unless a subclass has some."""
        return {}

    def row_means(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """The mean vector of each row's chunks, float32 ``[rows, encoded]``, encoding ``budget`` tokens at once."""
        backend = self.backend
        if self.training or torch.is_grad_enabled() or backend.encode is None:
            return encode_rows(text, self._in_precision, budget, self.pad_id, self.length)
        threads = torch.get_num_threads()
        streams = threads // math.ceil(threads / MOST_STREAMS) if backend.in_streams else 1
        return encode_ragged_rows(text, backend.encode, budget, backend.tokens, streams)

    def _in_precision(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.training or self.backend.precision == "fp32":
            return self.encode(input_ids, attention_mask)
        with torch.autocast(input_ids.device.type, PRECISIONS[self.backend.precision]):
            return self.encode(input_ids, attention_mask)
