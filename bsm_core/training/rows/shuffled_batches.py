"""Batches of training rows, in an order that the seed decides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from bsm_core.models.batch import Batch

_BATCHES_PER_BLOCK = 16
"""Number of batches whose rows are sorted by length together, so that a batch has rows of similar length."""


class BatchRows(Dataset[Batch]):
    """All rows as one batch. A list of row numbers selects a smaller batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.batch.rows

    def __getitem__(self, rows: list[int]) -> Batch:
        return self.batch.select(torch.tensor(rows, dtype=torch.int64))


class ShuffledBatches(Sampler[list[int]]):
    """Row numbers of the batches of an epoch, in random order. The rows of a batch have similar lengths.

    Args:
        batch: All rows.
        rows_per_batch: Number of rows in a batch. One batch of an epoch may have fewer; a single row that would be left
            over joins another batch, because batch normalization cannot train on one row.
        seed: Seed of the job. The order depends on the seed and the epoch.
    """

    def __init__(self, batch: Batch, rows_per_batch: int, seed: int) -> None:
        self.rows_per_batch, self.seed, self.epoch = rows_per_batch, seed, 0
        self.lengths = np.zeros(batch.rows, np.int64)
        for text in batch.texts.values():
            tokens = text.chunk_offsets.diff()[text.chunk_ids]
            rows = torch.repeat_interleave(torch.arange(batch.rows), text.row_lengths)
            self.lengths += torch.zeros(batch.rows, dtype=torch.int64).index_add_(0, rows, tokens).numpy()

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.rows_per_batch)
        return full if full and rest == 1 else full + bool(rest)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        size = self.rows_per_batch * _BATCHES_PER_BLOCK
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        rows = np.concatenate([block[np.argsort(self.lengths[block], kind="stable")] for block in blocks])
        batches = np.split(rows, np.arange(1, len(self)) * self.rows_per_batch)
        for i in rng.permutation(len(self)):
            yield batches[i].tolist()
