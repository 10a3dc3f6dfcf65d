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
    assert words_of(expected) == "large shift"
    assert [words_of(index) for index in (None, 0.05, 0.2)] == ["", "stable", "moderate shift"]


def test_chance_alone_is_no_shift():
    rng = np.random.default_rng(0)
    for rows in (400, 5_000):
        before, now = (np.bincount(rng.integers(0, 20, rows), minlength=20).tolist() for _ in range(2))
        assert stability_index(before, now, ordered=True) < 0.1


def test_rare_bins_are_joined_and_new_values_count():
    assert stability_index([1000, 1, 1, 1], [1000, 0, 3, 0], ordered=True) is None  # one bin is left
    assert stability_index([1000, 1000, 0], [1000, 1000, 1000], ordered=False) > 0.25


def test_few_rows_say_nothing():
    assert stability_index([10, 20], [1000, 2000], ordered=True) is None
    assert stability_index([1000, 2000], [10, 20], ordered=True) is None
