from __future__ import annotations

import pytest

from bsm_core.artifact.untrusted.values import check_nesting, check_shape, leaves


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_values_that_code_can_walk_through_pass():
    for value in ({"a": [1, (2, {3})], "b": {"c": None}}, nested(100), [0] * 1_000_000, "text"):
        check_nesting(value)


def test_values_that_never_end_are_refused():
    itself: list = []
    itself.append({"a": itself})
    doubled: list = []
    for _ in range(40):
        doubled = [doubled, doubled]
    for value in (itself, doubled, nested(101), [[0] * 10_000] * 10_000):
        with pytest.raises(ValueError, match=r"nested more than|again and again"):
            check_nesting(value)


def test_leaves_are_the_values_without_the_containers():
    assert sorted(leaves({1: [2, (3, {4})], 5: {6: []}})) == [1, 2, 3, 4, 5, 6]


def test_shapes():
    check_shape((0, 1000, 1000))
    check_shape((10**9,))
    for shape in ((10**9, 0), (1,) * 65):
        with pytest.raises(ValueError, match="it holds an array of"):
            check_shape(shape)
