from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import Batch, TextBatch
from bsm_core.training.rows.shuffled_batches import BatchRows, ShuffledBatches


def token_batch(lengths):
    texts = {"chat": TextBatch.from_rows([[[5] * length] if length else [] for length in lengths])}
    count = len(lengths)
    return Batch(count, texts, torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 99), st.integers(0, 3))
def test_each_row_is_dealt_once_an_epoch_and_the_same_seed_deals_the_same(lengths, batch_size, seed, epoch):
    def dealt():
        sampler = ShuffledBatches(token_batch(lengths), batch_size, seed)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        return batches

    batches = dealt()
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches if len(batch) != batch_size]
    rest = len(lengths) % batch_size
    left_over = rest == 1 < len(lengths) and batch_size > 1
    assert sizes == ([batch_size + 1] if left_over and len(lengths) > batch_size else [rest] if rest else [])
    assert min(map(len, batches)) > 1 or batch_size == 1 or len(lengths) == 1
    assert dealt() == batches


def test_another_epoch_and_another_seed_deal_in_another_order():
    sampler = ShuffledBatches(token_batch([1] * 40), 4, seed=0)
    orders = [list(sampler)]
    sampler.set_epoch(1)
    orders += [list(sampler), list(ShuffledBatches(token_batch([1] * 40), 4, seed=1))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_like_lengths_stand_together():
    lengths = np.random.default_rng(0).integers(1, 100, 64)
    spread = [np.ptp(lengths[rows]) for rows in ShuffledBatches(token_batch(lengths.tolist()), 4, seed=0)]
    assert np.mean(spread) < 15


def test_the_length_of_a_row_is_that_of_all_its_chunks_in_all_its_fields():
    texts = {"a": TextBatch.from_rows([[[1, 2], [3]], [], [[1, 2]]]), "b": TextBatch.from_rows([[[9]], [[9]], []])}
    assert ShuffledBatches(Batch(3, texts), 2, seed=0).lengths.tolist() == [4, 1, 2]


def test_rows_are_taken_from_the_batch_with_their_features_and_labels():
    rows = BatchRows(token_batch([1, 2, 3]))
    taken = rows[[2, 0]]
    assert len(rows) == 3
    assert (taken.rows, taken.labels.tolist(), taken.features.tolist()) == (2, [2, 0], [[2.0], [0.0]])
    assert taken.texts["chat"].chunk_offsets.tolist() == [0, 3, 4]
