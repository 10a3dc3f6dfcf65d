from __future__ import annotations

import numpy as np
import pytest

from bsm_core.training.proposal.leaks import tells_label

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 600)


@pytest.mark.parametrize(
    ("values", "ordered", "leaks"),
    [
        (LABELS * 1.0, True, True),
        (LABELS + RNG.normal(scale=0.05, size=600), True, True),
        (LABELS + RNG.normal(scale=0.4, size=600), True, False),
        (RNG.normal(size=600), True, False),
        ((LABELS * 200 + RNG.integers(0, 60, 600)) * 1.0, False, False),
        ((LABELS * 200 + RNG.integers(0, 6, 600)) * 1.0, False, True),
        (np.where(LABELS == 0, np.nan, LABELS), True, True),
        (np.arange(600) * 1.0, False, False),
        (np.where(LABELS == 2, np.arange(600) % 3, 3 + LABELS) * 1.0, False, True),
    ],
    ids=[
        "copy",
        "nearly",
        "related",
        "noise",
        "many categories",
        "categories",
        "missing",
        "each another",
        "in a rhythm",
    ],
)
def test_a_column_leaks_if_it_tells_the_label_of_rows_it_did_not_see(values, ordered, leaks):
    told = tells_label(values, LABELS, 3, ordered=ordered)
    assert (told is not None and told.is_label) == leaks


def test_a_column_that_nearly_tells_the_label_is_measured():
    labels = (np.arange(600) % 3 > 0).astype(np.intp)
    told = tells_label(labels + RNG.normal(scale=0.4, size=600), labels, 2, ordered=True)
    assert told is not None
    assert 0.9 < told.auroc < 0.995
    assert not told.is_label


@pytest.mark.parametrize("odd", [1, 8, 12])
def test_a_few_rows_with_an_odd_label_hide_nothing(odd):
    labels = RNG.integers(0, 2, 3_000)
    values = labels * 1.0
    labels[:odd] = 2
    told = tells_label(values, labels, 3, ordered=True)
    assert told is not None
    assert told.is_label


def test_of_few_rows_of_a_class_nothing_is_said():
    labels = (np.arange(300) > 290).astype(np.intp)
    assert tells_label(labels * 1.0, labels, 2, ordered=True) is None
