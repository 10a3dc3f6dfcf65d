from __future__ import annotations

import dataclasses
import pickle

import torch
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import Batch, TextBatch

ROWS = st.lists(st.lists(st.lists(st.integers(1, 99), max_size=6), max_size=4), max_size=8)


@given(ROWS)
def test_distinct_chunks_stand_longest_first(rows):
    text = TextBatch.from_rows(rows)
    lengths = text.chunk_offsets.diff().tolist()
    assert lengths == sorted(lengths, reverse=True)
    tokens = [text.tokens[a:b].tolist() for a, b in zip(text.chunk_offsets, text.chunk_offsets[1:], strict=False)]
    assert len(set(map(tuple, tokens))) == text.distinct
    assert [tokens[i] for i in text.chunk_ids] == [chunk for row in rows for chunk in row if chunk]
    assert text.row_lengths.tolist() == [len([c for c in row if c]) for row in rows]


@given(ROWS)
def test_the_rows_of_a_batch_are_those_it_was_built_from(rows):
    assert TextBatch.from_rows(rows).to_rows() == [[chunk for chunk in row if chunk] for row in rows]


@given(ROWS, st.data())
def test_some_of_the_rows_are_a_batch_like_any_other(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1)) if rows else st.just([]))
    picked = TextBatch.from_rows(rows).select(torch.tensor(chosen, dtype=torch.int64))
    want = TextBatch.from_rows([rows[i] for i in chosen])
    assert picked.chunk_offsets.diff().tolist() == want.chunk_offsets.diff().tolist()
    assert picked.to_rows() == want.to_rows()


def test_some_rows_of_a_batch_keep_their_features_and_labels():
    batch = Batch(3, {"chat": TextBatch.from_rows([[[1]], [[2]], []])}, torch.eye(3), torch.arange(3), window="w")
    some = batch.select(torch.tensor([2, 0]))
    assert (some.rows, some.window, some.labels.tolist()) == (2, None, [2, 0])
    assert some.features.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert some.texts["chat"].row_lengths.tolist() == [0, 1]
    assert dataclasses.replace(batch, labels=None).select(torch.tensor([1])).labels is None
    assert Batch(3, batch.texts).select(torch.tensor([2, 2])).features.shape == (2, 0)


def test_padding_is_masked_and_carries_the_pad_id():
    text = TextBatch.from_rows([[[5, 6, 7], [8]], [[9, 1]]])
    ids, mask = text.padded(0, 3, pad_id=42)
    assert ids.tolist() == [[5, 6, 7], [9, 1, 42], [8, 42, 42]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert text.padded(1, 3)[0].tolist() == [[9, 1], [8, 0]]


def test_a_fixed_length_pads_and_cuts():
    text = TextBatch.from_rows([[[5, 6, 7, 8]], [[9, 1]]])
    ids, mask = text.padded(0, 2, pad_id=42, length=3)
    assert ids.tolist() == [[5, 6, 7], [9, 1, 42]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert text.padded(1, 2, length=5)[0].tolist() == [[9, 1, 0, 0, 0]]


def test_a_batch_moves_with_its_texts_features_and_labels_and_keeps_its_window():
    text = TextBatch.from_rows([[[1, 2]]])
    batch = Batch(1, {"chat": text}, torch.ones(1, 2), torch.tensor([1]), window="w")
    moved = batch.to("meta")
    assert {moved.texts["chat"].tokens.device.type, moved.features.device.type, moved.labels.device.type} == {"meta"}
    assert moved.texts["chat"].chunk_offsets.device.type == "cpu"
    assert (moved.rows, moved.window) == (1, "w")
    assert Batch(1, {}, torch.ones(1, 2)).to("meta").labels is None


def test_a_batch_crosses_processes():
    batch = Batch(1, {"chat": TextBatch.from_rows([[[1, 2]]])})
    assert torch.equal(pickle.loads(pickle.dumps(batch)).texts["chat"].tokens, batch.texts["chat"].tokens)
