from __future__ import annotations

from itertools import combinations
from math import factorial

import pytest
import torch

from bsm_core.explain.coalitions import MOST_EXACT, coalitions


def by_definition(value, inputs):
    """Shapley values as Shapley (1953) defines them."""
    found = []
    for each in range(inputs):
        others, total = [other for other in range(inputs) if other != each], 0.0
        for size in range(inputs):
            weight = factorial(size) * factorial(inputs - size - 1) / factorial(inputs)
            total += sum(weight * (value({*s, each}) - value({*s})) for s in combinations(others, size))
        found.append(total)
    return found


def in_all(value, inputs):
    members = coalitions(inputs).members
    return torch.tensor([value({*row.nonzero().flatten().tolist()}) for row in members], dtype=torch.float64)


@pytest.mark.parametrize("inputs", [1, 2, 3, 5])
def test_exact_values_are_those_of_the_definition(inputs):
    def value(known):
        return len(known) ** 2 + 3 * (0 in known) - 2 * ({0, 2} <= known) + max(known, default=-1)

    got = coalitions(inputs).shapley_values(in_all(value, inputs))
    assert got.tolist() == pytest.approx(by_definition(value, inputs), abs=1e-12)


@pytest.mark.parametrize("inputs", [MOST_EXACT, MOST_EXACT + 1, 20, 60])
def test_values_add_up_to_the_difference_of_all_and_nothing(inputs):
    values = torch.randn(coalitions(inputs).count, 3, generator=torch.Generator().manual_seed(0)).double()
    got = coalitions(inputs).shapley_values(values)
    assert torch.allclose(got.sum(0), values[-1] - values[0], atol=1e-9)


@pytest.mark.parametrize("inputs", [MOST_EXACT + 1, 30])
def test_sampled_values_of_sums_and_pairs_are_exact(inputs):
    def value(known):
        return 5 + sum(each / 7 for each in known) + 2 * ({0, 1} <= known)

    expected = [each / 7 + (each < 2) for each in range(inputs)]
    assert coalitions(inputs).shapley_values(in_all(value, inputs)).tolist() == pytest.approx(expected, abs=1e-9)


def test_sampled_coalitions_are_the_same_each_time():
    first = coalitions(30).members.clone()
    coalitions.cache_clear()
    assert torch.equal(coalitions(30).members, first)


@pytest.mark.parametrize("inputs", [3, 30])
def test_the_first_coalition_has_no_input_and_the_last_has_all(inputs):
    members = coalitions(inputs).members
    assert not members[0].any()
    assert members[-1].all()
