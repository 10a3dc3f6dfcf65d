from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import TextBatch, TokenBudget, encode_rows
from bsm_core.errors import BSMError
from bsm_core.models.micro_batches import DeviceOutOfMemoryError, encode_ragged_rows

ROWS = st.lists(st.lists(st.lists(st.integers(1, 99), max_size=6), max_size=4), max_size=8)


def encode(input_ids, attention_mask):
    """Per chunk: the sum of its ids and its length; padding does not count."""
    return torch.stack([(input_ids * attention_mask).sum(1), attention_mask.sum(1)], dim=1).double()


def by_hand(rows):
    result = []
    for row in rows:
        chunks = [[sum(chunk), len(chunk)] for chunk in row if chunk]
        result.append([sum(c[i] for c in chunks) / max(len(chunks), 1) for i in range(2)])
    return result


@given(ROWS, st.integers(1, 40))
def test_rows_are_the_mean_of_their_own_chunks_at_any_budget(rows, tokens):
    got = encode_rows(TextBatch.from_rows(rows), encode, TokenBudget(tokens))
    assert got.dtype == torch.float32
    assert torch.allclose(got, torch.tensor(by_hand(rows), dtype=torch.float32).reshape(len(rows), 2))


def test_no_micro_batch_is_over_the_budget_and_equal_chunks_are_encoded_once():
    seen = []

    def watch(input_ids, attention_mask):
        seen.append(tuple(input_ids.shape))
        return encode(input_ids, attention_mask)

    encode_rows(TextBatch.from_rows([[[1, 2, 3], [4]], [[1, 2, 3]], [[5, 6]], [[7]]]), watch, TokenBudget(4))
    assert seen == [(1, 3), (2, 2), (1, 1)]
    assert all(chunks * length <= 4 for chunks, length in seen)


@pytest.mark.parametrize(("tokens", "chunks"), [(15, [3, 1]), (10, [2, 2]), (9, [1] * 4), (4, [1] * 4)])
def test_the_budget_counts_the_padding_to_a_fixed_length(tokens, chunks):
    seen = []

    def watch(input_ids, attention_mask):
        seen.append(tuple(input_ids.shape))
        return encode(input_ids, attention_mask)

    rows = [[[1, 2, 3], [4]], [[5, 6]], [[7]]]
    got = encode_rows(TextBatch.from_rows(rows), watch, TokenBudget(tokens), length=5)
    assert seen == [(count, 5) for count in chunks]
    assert torch.allclose(got.double(), torch.tensor(by_hand(rows), dtype=torch.float64))


def test_a_fixed_length_holds_where_memory_runs_out_and_where_there_is_no_chunk():
    text, budget = TextBatch.from_rows([[[i]] for i in range(1, 7)]), TokenBudget(1000)
    device = TightDevice(10)
    encode_rows(text, device, budget, length=5)
    assert (device.tried, budget.tokens) == ([30, 15, 5, 5, 5, 5, 5, 5], 7)
    with pytest.raises(DeviceOutOfMemoryError, match="one chunk of 5 tokens"):
        encode_rows(text, TightDevice(4), TokenBudget(5), length=5)
    lengths = []

    def watch(input_ids, attention_mask):
        lengths.append(tuple(input_ids.shape))
        return encode(input_ids, attention_mask)

    encode_rows(TextBatch.from_rows([[]]), watch, budget, length=5)
    assert lengths == [(1, 5)]


def test_a_chunk_longer_than_the_budget_goes_alone():
    assert encode_rows(TextBatch.from_rows([[[1] * 9]]), encode, TokenBudget(4)).tolist() == [[9.0, 9.0]]


class TightDevice:
    """Runs out of memory beyond a number of tokens."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.tried = []

    def __call__(self, input_ids, attention_mask):
        self.tried.append(input_ids.numel())
        if input_ids.numel() > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(input_ids, attention_mask)


@given(ROWS, st.integers(6, 30))
def test_out_of_memory_halves_the_budget_and_changes_no_number(rows, room):
    budget = TokenBudget(1000)
    text = TextBatch.from_rows(rows)
    device = TightDevice(room)
    assert torch.equal(encode_rows(text, device, budget), encode_rows(text, encode, TokenBudget(1000)))
    failed = [n for n in device.tried if n > room]
    assert (budget.tokens < 1000) == bool(failed)


def test_the_budget_stays_halved_for_the_next_window(caplog):
    budget, text = TokenBudget(1000), TextBatch.from_rows([[[i, i + 1]] for i in range(8)])
    encode_rows(text, TightDevice(4), budget)
    assert budget.tokens == 4
    later = TightDevice(4)
    encode_rows(text, later, budget)
    assert later.tried == [4, 4, 4, 4]
    told = "16 tokens do not fit into the accelerator's memory: from now on it gets at most 8 at once"
    assert caplog.messages == [told, told.replace("8", "4").replace("16", "8")]


def test_no_room_for_one_chunk_says_what_to_do():
    with pytest.raises(DeviceOutOfMemoryError, match="one chunk of 3 tokens") as caught:
        encode_rows(TextBatch.from_rows([[[1, 2, 3]], [[4]]]), TightDevice(2), TokenBudget(100))
    assert isinstance(caught.value, BSMError)
    assert isinstance(caught.value, torch.cuda.OutOfMemoryError)
    assert "max_sen_len" in str(caught.value)


def test_rows_without_chunks_are_zeros():
    assert encode_rows(TextBatch.from_rows([[], [[]]]), encode, TokenBudget(8)).tolist() == [[0.0, 0.0]] * 2
    assert encode_rows(TextBatch.from_rows([]), encode, TokenBudget(8)).shape == (0, 2)


def test_gradients_flow_to_the_encoder():
    weight = torch.ones(1, requires_grad=True)
    rows = TextBatch.from_rows([[[1, 2]], [[3], [4]]])
    encode_rows(rows, lambda i, m: weight * encode(i, m).float(), TokenBudget(2)).sum().backward()
    assert weight.grad.item() == pytest.approx(3 + 2 + 3.5 + 1)


def ragged(tokens, lengths):
    """As :func:`encode`, without padding."""
    sums = torch.stack([part.sum() for part in tokens.split(lengths.tolist())])
    return torch.stack([sums, lengths], dim=1).double()


@given(ROWS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3]))
def test_without_padding_rows_are_the_same_whatever_is_encoded_at_once(rows, budget, most, streams):
    text = TextBatch.from_rows(rows)
    got = encode_ragged_rows(text, ragged, TokenBudget(budget), most, streams)
    assert got.tolist() == encode_rows(text, encode, TokenBudget(10_000)).tolist()


def test_without_padding_a_micro_batch_keeps_to_the_budget_and_to_what_suits_the_encoder():
    text, sizes = TextBatch.from_rows([[[1] * 3, [2] * 3, [3] * 3, [4] * 2, [5]]]), []

    def watch(tokens, lengths):
        sizes.append(len(tokens))
        return ragged(tokens, lengths)

    encode_ragged_rows(text, watch, TokenBudget(7), 100)
    encode_ragged_rows(text, watch, TokenBudget(100), 7)
    assert sorted(sizes) == [6, 6, 6, 6]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 200), st.integers(2, 5))
def test_streams_get_as_many_micro_batches_of_about_equal_size(lengths, most, streams):
    text, sizes = TextBatch.from_rows([[[i] * n] for i, n in enumerate(lengths)]), []

    def watch(tokens, lengths):
        sizes.append((len(tokens), len(lengths)))
        return ragged(tokens, lengths)

    encode_ragged_rows(text, watch, TokenBudget(most * streams), 10**6, streams)
    longest = max(lengths)
    assert sum(tokens for tokens, _ in sizes) == sum(lengths)
    assert all(tokens <= max(most, longest) or chunks == 1 for tokens, chunks in sizes)
    if sum(lengths) > streams * longest:
        assert len(sizes) >= streams
        assert max(sizes)[0] - min(sizes)[0] <= 2 * longest


def test_a_single_micro_batch_has_all_threads():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        text = TextBatch.from_rows([[[1, 2, 3]]])
        encode_ragged_rows(text, lambda *x: seen.append(torch.get_num_threads()) or ragged(*x), TokenBudget(9), 9, 4)
    finally:
        torch.set_num_threads(before)
    assert seen == [4]


def test_without_padding_running_out_of_memory_halves_the_budget():
    text, budget = TextBatch.from_rows([[[1, 2, 3]], [[4, 5]], [[6]]]), TokenBudget(100)

    def tight(tokens, lengths):
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("full")
        return ragged(tokens, lengths)

    assert torch.equal(
        encode_ragged_rows(text, tight, budget, 100), encode_ragged_rows(text, ragged, TokenBudget(100), 100)
    )
    assert budget.tokens < 100
    with pytest.raises(DeviceOutOfMemoryError, match="one chunk of 4 tokens"):
        encode_ragged_rows(TextBatch.from_rows([[[1, 2, 3, 4]]]), tight, budget, 100)


def test_without_padding_a_long_chunk_does_not_raise_the_budget_of_the_short_ones():
    text, budget, tried = TextBatch.from_rows([[[9] * 512], *[[[i] * 12] for i in range(600)]]), TokenBudget(4096), []

    def tight(tokens, lengths):
        tried.append(len(tokens))
        if len(tokens) > 2000:
            raise torch.OutOfMemoryError("full")
        return ragged(tokens, lengths)

    encode_ragged_rows(text, tight, budget, 10**6)
    assert tried[0] > 4000
    assert budget.tokens <= tried[0] // 2 + 1


def test_streams_share_the_threads_and_give_them_back():
    before, seen = torch.get_num_threads(), []

    def watch(tokens, lengths):
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return ragged(tokens, lengths)

    torch.set_num_threads(4)
    try:
        with torch.inference_mode():
            encode_ragged_rows(TextBatch.from_rows([[[1]], [[2]], [[3]]]), watch, TokenBudget(100), 1, 2)
        assert seen == [(2, True)] * 3
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_what_fails_in_a_stream_fails():
    def fails(tokens, lengths):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        encode_ragged_rows(TextBatch.from_rows([[[1]], [[2]]]), fails, TokenBudget(100), 1, 2)
