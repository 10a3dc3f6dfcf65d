from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.report.page.axes import (
    cut_to,
    number_text,
    round_ticks,
    share_text,
    short_text,
    ticks_from_zero,
    width_of,
)


@given(st.floats(1e-9, 1e12))
def test_an_axis_from_zero_holds_every_value_and_has_few_ticks(largest):
    ticks = ticks_from_zero([0.0, largest])
    assert ticks[0] == 0
    assert ticks[-1] >= largest * (1 - 1e-9)
    assert ticks[-2] < largest
    assert 2 <= len(ticks) <= 6


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_round_ticks_lie_in_the_range(low, width):
    ticks = round_ticks(low, low + width)
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    assert 1 <= len(ticks) <= 6


def test_no_values():
    assert ticks_from_zero([]) == [0.0, 1.0]
    assert round_ticks(3.0, 3.0) == [3.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (1234.5, "1,234"), (0.25, "0.25"), (100.0, "100"), (-0.5, "-0.5"), (1e-5, "1.000e-5")),
        *((2.5e9, "2.500e9"), (None, "–"), (math.nan, "–"), (999_999.0, "999,999")),
    ],
    ids=str,
)
def test_numbers_as_text(value, text):
    assert number_text(value) == text


def test_short_numbers_and_shares():
    assert [short_text(value) for value in (0, 12.5, 1500, 2e6, 0.05)] == ["0", "12.5", "1.5k", "2M", "0.05"]
    assert [share_text(*pair) for pair in ((1, 3), (1, 30), (0, 5), (1, 10**6), (1, 0))] == [
        *("33 %", "3.3 %", "0 %", "< 0.1 %", "–"),
    ]


@given(st.text(max_size=60), st.floats(20, 300))
def test_a_label_is_cut_to_its_room(text, width):
    assert width_of(cut_to(text, width)) <= width
