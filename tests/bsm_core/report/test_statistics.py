from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsm_core.report.binning import Binning, Scored, TextArrays, TextLimits
from bsm_core.report.statistics import (
    LEAST_CERTAIN,
    MOST_BUCKETS,
    NUMBER_EDGES,
    OTHER,
    TOKEN_EDGES,
    Order,
    Statistics,
    kept,
    score_bins,
)

NAMES = ["amount", "age", "channel"]
BINNING = Binning.of(NAMES, {"channel"}, {"amount": 2.0, "age": -1.0}, {"chat": TextLimits(3, 2)})


def window(start: int, rows: np.ndarray, classes: int = 2, failed: tuple[int, ...] = ()) -> Scored:
    """A window whose values follow from the numbers of its rows."""
    rng = np.random.default_rng(7)
    weights, numbers = rng.random((1000, classes)), rng.normal(0, 50, (1000, 3)).astype(np.float32)
    probabilities = weights[rows % 1000] / weights[rows % 1000].sum(axis=1, keepdims=True)
    probabilities[[*failed]] = np.nan
    lengths = rows % 4
    chunks = np.concatenate([np.arange(length) for length in lengths] or [[]]).astype(np.int64)
    text = TextArrays(np.array([0, 3, 5, 6]), chunks, lengths)
    features = numbers[rows % 1000]
    missing = rows % 5 == 0
    features[missing, 0] = 2.0
    return Scored(
        start,
        probabilities,
        {"chat": text},
        features,
        {"missing:amount": int(missing.sum())},
        {"channel": Counter((rows % 3).astype(str).tolist())},
        {"channel": Counter({"mail": len(rows)})},
        lambda found: [f"id {rows[row]}" for row in found],
    )


def total(sizes: list[int], classes: int = 2) -> Statistics:
    found, start = Statistics(), 0
    for size in sizes:
        part = BINNING.statistics(window(start, np.arange(start, start + size), classes))
        found.add(Statistics.from_bytes(part.to_bytes()))
        start += size
    return found


def same(one: Statistics, other: Statistics) -> None:
    assert one.bins.keys() == other.bins.keys()
    for key in one.bins:
        assert np.trim_zeros(one.bins[key], "b").tolist() == np.trim_zeros(other.bins[key], "b").tolist(), key
    assert (one.rows, one.categories, one.unseen) == (other.rows, other.categories, other.unseen)
    assert one.least_certain == other.least_certain
    assert one.order.rows_per_bucket == other.order.rows_per_bucket
    assert one.order.rows.tolist() == other.order.rows.tolist()
    assert np.allclose(one.order.sums, other.order.sums, rtol=1e-12, atol=0)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=9), st.sampled_from([1, 2, 3, 12]))
def test_the_sum_over_windows_is_that_of_one_window_of_all_rows(sizes, classes):
    same(total(sizes, classes), total([sum(sizes)], classes))


def test_what_is_counted_against_a_count_row_by_row():
    rows = np.arange(500)
    data, found = window(0, rows), total([123, 377])
    found.bins = {key: np.trim_zeros(counts, "b") for key, counts in found.bins.items()}
    assert found.bins["predicted"].tolist() == np.bincount(data.probabilities.argmax(axis=1)).tolist()
    one = np.zeros(100, int)
    for value in data.probabilities[:, 1]:
        one[int(value * 100)] += 1
    assert found.bins["probability:1"].tolist() == np.trim_zeros(one, "b").tolist()
    assert found.bins["chunks:chat"].tolist() == [125, 125, 125, 125]
    lengths = [sum([3, 2, 1][: row % 4]) for row in rows]
    places = [sum(length >= edge for edge in TOKEN_EDGES) for length in lengths]
    assert found.bins["tokens:chat"].tolist() == np.bincount(places).tolist()
    assert found.bins["limits:chat"].tolist() == [125, 375, 250]  # no token, a chunk of 3 tokens, 2 chunks
    for column, name in ((0, "amount"), (1, "age")):
        used = rows[rows % 5 > 0] if name == "amount" else rows
        places = [sum(value >= edge for edge in NUMBER_EDGES) for value in data.features[used, column]]
        assert found.bins[f"number:{name}"].tolist() == np.bincount(places).tolist()
    assert found.categories == {"channel": Counter({"0": 167, "1": 167, "2": 166})}
    assert found.unseen == {"channel": Counter({"mail": 500})}
    margins = np.abs(data.probabilities[:, 1] - data.probabilities[:, 0])
    nearest = np.argsort(margins, kind="stable")[:LEAST_CERTAIN]
    assert [row.row for row in found.least_certain] == nearest.tolist()
    first = found.least_certain[0]
    assert first.id == f"id {nearest[0]}"
    assert dict(first.probabilities) == dict(enumerate(data.probabilities[nearest[0]].tolist()))
    assert first.probabilities[0][1] >= first.probabilities[1][1]


def test_the_order_has_few_buckets_however_many_rows_there_are():
    values = np.linspace(0, 1, 4096)[:, None]
    order = Order()
    for number in range(250):
        order = order.plus(Order.of(number * 4096, values + number, None))
        assert len(order.rows) <= MOST_BUCKETS
    assert order.rows.sum() == 250 * 4096
    assert order.rows_per_bucket == 8192
    assert order.sums[0, 0] / order.rows[0] == pytest.approx(1.0)  # the mean of the first two windows
    assert np.all(np.diff(order.sums[0] / order.rows) > 0)
    assert len(Order.of(0, values[:20], None).rows) == 3


def test_rows_without_probabilities_are_counted_as_rows_alone():
    found = BINNING.statistics(window(8, np.arange(8, 24), failed=(0, 9)))
    assert found.rows == 16
    assert found.bins["predicted"].sum() == found.bins["probability:0"].sum() == 14
    assert (found.order.first, found.order.rows.tolist()) == (1, [7, 7])
    assert np.isfinite(found.order.sums).all()
    assert {row.row for row in found.least_certain} == {*range(8, 24)} - {8, 17}
    none = BINNING.statistics(window(0, np.arange(2), failed=(0, 1)))
    assert (none.rows, none.least_certain, none.bins["predicted"].sum()) == (2, [], 0)


def test_a_window_without_rows():
    found = BINNING.statistics(window(0, np.arange(0)))
    assert found.rows == 0
    assert all(counts.sum() == 0 for counts in found.bins.values())
    same(found, Statistics.from_bytes(found.to_bytes()))


def test_a_probability_of_one_is_in_the_last_bin():
    assert score_bins(np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))[1].nonzero()[0].tolist() == [0, 50, 99]


def test_rare_categories_beyond_a_thousand_count_as_others():
    counts = Counter({f"c{number:04d}": 5000 - number for number in range(3000)})
    found = kept(counts)
    assert len(found) == 1001
    assert found["c0999"] == 4001
    assert found[OTHER] == counts.total() - sum(5000 - number for number in range(1000))
    one, other = (Statistics(categories={"c": kept(counts)}) for _ in range(2))
    one.add(other)
    assert one.categories["c"].total() == 2 * counts.total()
    assert one.categories["c"]["c0000"] == 10_000


def test_long_ids_are_cut_and_many_classes_are_bounded():
    rows = np.arange(30)
    data = window(0, rows, classes=2_000)
    found = BINNING.statistics(data)
    assert len(found.bins["predicted"]) <= 1001
    assert found.bins["predicted"].sum() == 30
    assert sum(key.startswith("probability:") for key in found.bins) == 20
    assert len(found.order.sums) == 1
    assert [len(row.probabilities) for row in found.least_certain] == [3] * 20
    long = Binning().statistics(Scored(0, np.full((2, 2), 0.5), name=lambda rows: ["x" * 500 for _ in rows]))
    assert [len(row.id) for row in long.least_certain] == [100, 100]


def test_a_model_with_very_many_features_is_counted_in_part():
    names = [f"n{number}" for number in range(500)]
    found = Binning.of(names, {*names[400:]}, dict.fromkeys(names, 0.0), {})
    assert (len(found.numbers), len(found.categories), found.uncounted) == (200, 50, 250)


def test_limits_are_those_of_the_steps():
    steps = [{"max_sen_len": 512, "chunk_trancate": True, "max_total_chunks": 5}, {"max_sen_len": 256}, {}]
    assert TextLimits.of(steps) == TextLimits(256, 5)
    assert TextLimits.of([{"chunk_trancate": True, "chunk_truncate": False, "max_total_chunks": 5}]) == TextLimits()
