from __future__ import annotations

import numpy as np
import pytest

from bsm_core.report.drift import stability_index, words_of


def test_equal_distributions_have_an_index_of_zero():
    assert stability_index([100, 200, 300], [1000, 2000, 3000], ordered=True) == pytest.approx(0, abs=1e-4)
    assert stability_index([100, 200, 300], [1000, 2000, 3000], ordered=False) == pytest.approx(0, abs=1e-4)


def test_the_value_of_the_usual_formula():
    before, now = np.array([5000, 3000, 2000]), np.array([2000, 3000, 5000])
    p, q = before / 10_000, now / 10_000
    expected = ((q - p) * np.log(q / p)).sum()
    assert stability_index(before.tolist(), now.tolist(), ordered=True) == pytest.approx(expected, rel=1e-3)
    apart = [(3000, 3000), (2000, 5000)]
    assert stability_index([5000], [2000], ordered=False, apart=apart) == pytest.approx(expected, rel=1e-3)
    assert words_of(expected) == "large shift"
    assert [words_of(index) for index in (None, 0.05, 0.2)] == ["", "stable", "moderate shift"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("rows", [100, 200, 400, 5_000])
@pytest.mark.parametrize("power", [0, 2])
def test_chance_alone_is_no_shift(rows, ordered, power):
    rng = np.random.default_rng(0)
    weights = np.arange(1, 21.0) ** power
    found = []
    for _ in range(20):
        before, now = (rng.multinomial(rows, weights / weights.sum()).tolist() for _ in range(2))
        found.append(stability_index(before, now, ordered=ordered, apart=[(0, 0), (0, 0)]))
    assert np.median(found) < 0.1


def test_more_rows_are_no_shift_where_a_bin_is_empty():
    empty = [(0, 0)] * 3
    assert stability_index([100, 0], [10**7, 0], ordered=True, apart=empty) == 0
    assert stability_index([10**7, 1], [100, 0], ordered=True, apart=empty) < 0.001
    assert stability_index([100, 0], [10**7, 1], ordered=True, apart=empty) < 0.001


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([960, 40, 0], [0, 1000, 0]),
        ([1000, 0], [0, 1000]),
        ([0, 1000, 0], [1000, 0, 0]),
        ([20, 20, 960], [1000, 0, 0]),
        ([40, 500, 460], [540, 0, 460]),
        ([45] * 10 + [550], [450] + [0] * 9 + [550]),
    ],
)
def test_rows_that_leave_a_frequent_bin_are_seen_wherever_they_go(before, now, ordered):
    assert stability_index(before, now, ordered=ordered) > 0.5


def test_a_rare_bin_that_stays_rare_is_no_shift():
    assert stability_index([1000, 1, 1, 1], [1000, 0, 3, 0], ordered=True) < 0.01
    assert stability_index([1000, 1000, 0], [1000, 1000, 1000], ordered=False) > 0.25


def test_what_is_apart_is_never_joined():
    assert stability_index([100] * 10, [100] * 9 + [0], ordered=True, apart=[(0, 100)]) > 0.25
    rare = [45] * 10 + [550]
    assert stability_index(rare, [0] * 10 + [550], ordered=False, apart=[(0, 450), (0, 0)]) > 0.5


def test_few_rows_say_nothing():
    assert stability_index([10, 20], [1000, 2000], ordered=True) is None
    assert stability_index([1000, 2000], [10, 20], ordered=True) is None
    assert stability_index([90], [90], ordered=True, apart=[(9, 9)]) is None
    assert stability_index([1000], [1000], ordered=True) is None  # one bin
