"""Base class of text encoders, and the backends that can compute an encoder.

A *backend* is one way to compute the vectors of an encoder. ``eager`` is the encoder's own PyTorch code; an encoder may
offer faster ones. :mod:`bsm_core.backends.choose` chooses the backend and the precision before the first window.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bsm_core.models.batch import TextBatch
from bsm_core.models.micro_batches import EncodeRagged, TokenBudget, encode_ragged_rows, encode_rows
from bsm_core.runtime.precision import Precision

EAGER = "eager"
_AUTOCAST = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}

_MOST_STREAMS = 16
"""Largest number of threads that encode at once; Python's global interpreter lock slows down more threads."""


@dataclass(frozen=True)
class Backend:
    """One way to compute an encoder, ready to run.

    Attributes:
        name: Name of the backend for ``--backend``.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``.
        encode: Function that encodes chunks without padding; None for the encoder's own ``encode``.
        tokens: Number of tokens at once with which the backend is fastest.
        in_streams: Whether several micro-batches at once, each on one thread, are faster than one on all threads.
        alone: Whether ``encode`` changes settings of the whole process, such as PyTorch's precision of matrix products.
            Of the models that have such an encoder, one at a time predicts.
        sample: Chunks that int8 was calibrated with.

    Raises:
        ValueError: The precision is another word.

    Example:
        Make a backend whose vector is the first token of a chunk::

            def firsts(tokens: Tensor, lengths: Tensor) -> Tensor:
                return tokens[lengths.cumsum(0) - lengths, None].float()

            backend = Backend("firsts", "fp32", encode=firsts)
    """

    name: str
    precision: str
    encode: EncodeRagged | None = None
    tokens: int = 2**31
    in_streams: bool = False
    alone: bool = False
    sample: TextBatch | None = None

    def __post_init__(self) -> None:
        if self.precision not in list(Precision):
            raise ValueError(
                f"backend {self.name!r} has the precision {self.precision!r}, expected one of {', '.join(Precision)}"
            )


BuildBackend = Callable[[str, TextBatch | None], Backend | None]
"""``(precision, sample) -> backend``: builds a backend, or returns None if it does not run here in this precision.

The sample holds chunks to calibrate int8 with; None if the artifact has no check rows.
"""


class Encoder(nn.Module):
    """Base class of text encoders, called with ``(text, budget)``: one vector for each row.

    A row's vector is the mean of the vectors of its chunks.

    Attributes:
        pad_id: Id of the padding token.
        length: Tokens to which each chunk is padded or cut; None to pad each micro-batch to its longest chunk.
        longest: Largest number of tokens of a chunk; None if there is no limit.
        vocabulary: Number of token ids.
        backend: Backend that computes the vectors, with the weights of the moment when it was built. In training, and
            wherever gradients are recorded, the encoder's own code computes them.
        exported: ONNX file that ``bsm export`` wrote for this encoder; None if the artifact has none.

    Example:
        Write an encoder whose vector is the mean embedding of the tokens::

            class Mean(Encoder):
                vocabulary = 1000

                def __init__(self) -> None:
                    super().__init__()
                    self.table = nn.Embedding(self.vocabulary, 16)

                def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
                    mask = attention_mask[..., None]
                    return (self.table(input_ids) * mask).sum(1) / mask.sum(1)
    """

    pad_id: int = 0
    length: int | None = None
    longest: int | None = None
    vocabulary: int = 1
    backend = Backend(EAGER, Precision.FP32)
    exported: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A backend holds compiled kernels. bsm_core.backends.choose.restore_backends builds it again in a copy, whose
        # own code computes the vectors until then.
        return {**vars(self), "backend": replace(self.backend, encode=None)}

    @abstractmethod
    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors of padded chunks, float ``[chunks, encoded]``.

        Args:
            input_ids: Token ids, int64 ``[chunks, length]``.
            attention_mask: 1 for a token, 0 for padding; int64 ``[chunks, length]``.
        """

    def forward(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Return a vector for each row; a subclass may add a last layer to :meth:`encode_rows`."""
        return self.encode_rows(text, budget)

    def backends(self) -> Mapping[str, BuildBackend]:
        """Return the functions that build faster backends, by name; none unless a subclass overrides this method."""
        return {}

    def encode_rows(self, text: TextBatch, budget: TokenBudget) -> Tensor:
        """Encode chunks with the encoder's backend, and average the vectors of each row's chunks.

        Args:
            text: Chunks of the text field.
            budget: Tokens at once.

        Returns:
            Means, float32 ``[rows, encoded]``; zeros for a row without chunks.

        Raises:
            DeviceOutOfMemoryError: The accelerator's memory is too small for a single chunk.
        """
        backend = self.backend
        if self.training or torch.is_grad_enabled() or backend.encode is None:
            return encode_rows(text, self._encode_in_precision, budget, self.pad_id, self.length)
        threads = torch.get_num_threads()
        streams = threads // math.ceil(threads / _MOST_STREAMS) if backend.in_streams else 1
        return encode_ragged_rows(text, backend.encode, budget, backend.tokens, streams)

    def _encode_in_precision(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.training or self.backend.precision == Precision.FP32:
            return self.encode(input_ids, attention_mask)
        with torch.autocast(input_ids.device.type, _AUTOCAST[Precision(self.backend.precision)]):
            return self.encode(input_ids, attention_mask)
