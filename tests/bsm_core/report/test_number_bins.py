"""Counts of numbers in bins, against a comparison with each edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bsm_core.artifact.training_distributions import NumberDistribution
from bsm_core.report.number_bins import Bins, bins_of
from bsm_core.report.statistics import NUMBER_EDGES

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def near(edges: np.ndarray) -> np.ndarray:
    """The edges, their neighbors and their negatives."""
    with np.errstate(over="ignore"):
        found = [edges, -edges, *(np.nextafter(edges, np.float32(end)) for end in (np.inf, -np.inf))]
    found = np.concatenate(found).astype(np.float32)
    return found[np.isfinite(found)]


@given(st.lists(FINITE, max_size=40), arrays.arrays(np.float32, st.integers(0, 60), elements=FINITE))
def test_counts_are_those_of_a_comparison_with_each_edge(edges, values):
    edges = np.unique(np.array(edges, np.float32))
    values = np.concatenate([values, near(edges)])
    want = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    assert Bins.of(edges.tolist()).counts(values).tolist() == want.tolist()


@pytest.mark.parametrize("edges", [NUMBER_EDGES, [0.0], [-0.0], [12.345, 12.346], [-1e-45, 0.0, 1e-45], [3.4e38], []])
def test_edges_that_lie_close_together_or_at_the_ends(edges):
    bins = Bins.of(edges)
    values = np.concatenate([near(bins.edges), np.array([0.0, -0.0, 3.4028235e38, -3.4028235e38], np.float32)])
    assert bins.counts(values).tolist() == [sum(bins.index(v) == i for v in values) for i in range(len(bins))]


@pytest.mark.parametrize(
    "values", [[], [3.0], [0.0, 1.0], [0.1, 0.2, 1e-45], [16777215.0, 16777216.0], [12.345, 12.346001]]
)
def test_a_few_values_have_a_bin_each_and_all_others_have_one(values):
    values = np.unique(np.array(values, np.float32))
    trained = NumberDistribution(edges=[], counts=[1] * len(values) + [0], missing=0, values=values.tolist())
    bins = bins_of(NumberDistribution.model_validate_json(trained.model_dump_json()))
    seen = np.concatenate([values, values, near(values), np.array([-0.0, 100.0, -7e5], np.float32)])
    want = [int((seen == value).sum()) for value in values]
    assert bins.counts(seen).tolist() == [*want, len(seen) - sum(want)]
    assert [bins.index(value) for value in values] == [*range(len(values))]
    assert bins.index(7.5) == len(values) == len(bins) - 1
