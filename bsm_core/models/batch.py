"""Batches that models read: token chunks of the text fields without padding, and the feature matrix."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor

EMBEDDING = "embedding"
"""Name of a row's fused vector."""


def embedding_name(column: str) -> str:
    """Return the name of the vectors of a text field."""
    return f"{EMBEDDING}_{column}"


@dataclass(frozen=True)
class TextBatch:
    """Token chunks of one text field, without padding; equal chunks of a window are stored once.

    Attributes:
        tokens: Token ids of all distinct chunks, one chunk after the other, the longest first; int32 ``[total]``.
        chunk_offsets: Position in ``tokens`` where each distinct chunk starts, then the total; int64
            ``[distinct + 1]``. The tensor always stays on the CPU.
        chunk_ids: Index of the distinct chunk that equals each chunk of the rows, in row order; int64 ``[chunks]``.
        row_lengths: Number of chunks of each row; int64 ``[rows]``.

    Example:
        Make a text field of three rows, of which the last one has no chunk::

            text = TextBatch.from_rows([[[5, 6, 7]], [[5], [8]], []])
            print(text.row_lengths.tolist())
    """

    tokens: Tensor
    chunk_offsets: Tensor
    chunk_ids: Tensor
    row_lengths: Tensor

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Sequence[int]]]) -> TextBatch:
        """Build a batch from the token ids of each row's chunks; chunks without tokens are left out.

        Args:
            rows: Token ids by row and chunk.
        """
        distinct: dict[bytes, int] = {}
        chunk_ids, row_lengths = [], []
        for row in rows:
            keys = [array("i", chunk).tobytes() for chunk in row if chunk]
            chunk_ids += [distinct.setdefault(key, len(distinct)) for key in keys]
            row_lengths.append(len(keys))
        keys = list(distinct)
        lengths = torch.tensor([len(key) // 4 for key in keys], dtype=torch.int64)
        order = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(keys))
        joined = bytearray().join(keys[i] for i in order.tolist())
        return cls(
            tokens=torch.frombuffer(joined, dtype=torch.int32) if joined else torch.empty(0, dtype=torch.int32),
            chunk_offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths[order].cumsum(0)]),
            chunk_ids=rank[torch.tensor(chunk_ids, dtype=torch.int64)],
            row_lengths=torch.tensor(row_lengths, dtype=torch.int64),
        )

    def to_rows(self) -> list[list[list[int]]]:
        """Return the token ids by row and chunk, as :meth:`from_rows` takes them."""
        tokens = self.tokens.tolist()
        chunks = [tokens[start:stop] for start, stop in pairwise(self.chunk_offsets.tolist())]
        ids = iter(self.chunk_ids.tolist())
        return [[chunks[chunk] for chunk in islice(ids, length)] for length in self.row_lengths.tolist()]

    def select(self, rows: Tensor) -> TextBatch:
        """Return the batch of some rows.

        Args:
            rows: Indices of the rows, in the order of the new batch; int64 ``[selected]``.
        """
        first = self.row_lengths.cumsum(0) - self.row_lengths
        lengths = self.row_lengths[rows]
        chunk_ids = self.chunk_ids[_ranges(first[rows], lengths)]
        used, chunk_ids = torch.unique(chunk_ids, return_inverse=True)  # sorted, so the longest chunk is still first
        sizes = self.chunk_offsets.diff()[used]
        return TextBatch(
            tokens=self.tokens[_ranges(self.chunk_offsets[used], sizes)],
            chunk_offsets=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
            chunk_ids=chunk_ids,
            row_lengths=lengths,
        )

    @property
    def distinct(self) -> int:
        """Number of distinct chunks."""
        return len(self.chunk_offsets) - 1

    def length(self, chunk: int) -> int:
        """Return the number of tokens of a distinct chunk."""
        return int(self.chunk_offsets[chunk + 1] - self.chunk_offsets[chunk])

    def padded(self, start: int, stop: int, pad_id: int = 0, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the distinct chunks ``start`` to ``stop`` (exclusive) as padded matrices.

        Args:
            start: First distinct chunk.
            stop: Distinct chunk after the last.
            pad_id: Id of the padding token.
            length: Number of columns; longer chunks are cut. The length of the longest of these chunks where None.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``[stop - start, length]``, on the device of ``tokens``.
        """
        device = self.tokens.device
        offsets = self.chunk_offsets[start : stop + 1].to(device, non_blocking=True)
        begin, lengths = offsets[:-1, None], offsets.diff()[:, None]
        position = torch.arange(length or self.length(start), device=device)
        mask = position < lengths
        last = self.tokens.numel() - 1
        ids = self.tokens[(begin + position).clamp_(max=last)].long().masked_fill_(~mask, pad_id)
        return ids, mask.long()

    def row_means(self, vectors: Tensor) -> Tensor:
        """Average the vectors of each row's chunks.

        Args:
            vectors: One vector for each distinct chunk; float ``[distinct, size]``.

        Returns:
            Means, float32 ``[rows, size]``; zeros for a row without chunks.
        """
        device = vectors.device
        lengths = self.row_lengths.to(device)
        chunks = vectors.float()[self.chunk_ids.to(device)]
        sums = torch.segment_reduce(chunks, "sum", lengths=lengths, axis=0, initial=0.0, unsafe=True)
        return sums / lengths.clamp(min=1)[:, None]

    def to(self, device: Any, non_blocking: bool = False) -> TextBatch:
        """Move ``tokens`` to a device; the other tensors stay on the CPU, where micro-batches are planned."""
        return replace(self, tokens=self.tokens.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TextBatch:
        """Return the batch with ``tokens`` in page-locked memory."""
        return replace(self, tokens=self.tokens.pin_memory())


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate ``start, start + 1, …`` with ``length`` numbers for each start."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - before, lengths)


@dataclass(frozen=True)
class Batch:
    """Rows of a window, as the model reads them.

    Attributes:
        rows: Number of rows.
        texts: Token chunks of each text field, by column.
        features: Feature matrix, float32 ``[rows, inputs]``, with one input for each feature, or several for a feature
            with an indicator of missing cells or one-hot categories; without columns if the model reads no features.
        labels: Class of each row, int64 ``[rows]``; None except in training.
        window: The window that the rows come from. Models do not read it; errors take the ids of rows from it.
        feature_names: Names of the columns of ``features``, for errors.
        failed: Rows for which the model class failed, each with the reason; filled while the batch is scored, if such
            rows are set aside. Copies of the batch on other devices share it.
        unscaled: Values of the features before they were scaled, in the units of the table, float32 ``[rows,
            features]``, on the CPU; None if they are those of ``features``. Models do not read it; statistics count it.
        vectors: Vectors of the rows, float ``[rows, size]`` each: ``"embedding_<column>"`` of a text field, and
            ``"embedding"``, the fused vector. An empty dict asks for them: it is filled while the batch is scored, and
            rows in ``failed`` have any numbers. Copies of the batch on other devices share it. None: they are not kept.

    Example:
        Make a batch of two rows, to try a model with::

            chunks = TextBatch.from_rows([[[5, 6, 7]], [[5], [8]]])
            batch = Batch(2, texts={"chat": chunks}, features=torch.zeros(2, 3))
    """

    rows: int
    texts: dict[str, TextBatch] = field(default_factory=dict)
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    labels: Tensor | None = None
    window: Any = None
    feature_names: Sequence[str] = ()
    failed: dict[int, str] = field(default_factory=dict)
    unscaled: Tensor | None = None
    vectors: dict[str, Tensor] | None = None

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Return the batch on a device; Lightning calls this method."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; PyTorch's data loader calls this method."""
        return self._map(lambda value: value.pin_memory())

    def select(self, rows: Tensor) -> Batch:
        """Return the batch of some rows, without a window, and without vectors if there are any.

        Args:
            rows: Indices of the rows, in the order of the new batch; int64 ``[selected]``.
        """
        return Batch(
            rows=len(rows),
            texts={column: text.select(rows) for column, text in self.texts.items()},
            features=self.features[rows] if self.features.numel() else torch.empty(len(rows), 0),
            labels=None if self.labels is None else self.labels[rows],
            feature_names=self.feature_names,
            unscaled=None if self.unscaled is None else self.unscaled[rows],
            vectors=None if self.vectors is None else {},
        )

    @property
    def table_values(self) -> Tensor:
        """Values of the features in the units of the table, float32 ``[rows, features]``, on the CPU."""
        return self.features.cpu() if self.unscaled is None else self.unscaled

    def names(self, rows: Sequence[int]) -> list[Any]:
        """Return the names of rows in errors: their ids if the batch has a window, their indices otherwise."""
        return list(rows) if self.window is None else self.window.names(rows)

    def _map(self, move: Callable[[Any], Any]) -> Batch:
        return replace(
            self,
            texts={column: move(text) for column, text in self.texts.items()},
            features=move(self.features),
            labels=None if self.labels is None else move(self.labels),
        )
