from __future__ import annotations

import pyarrow as pa
import pytest
from support.odd_times import ODD, odd_times

from bsm_core.tables.cell_values import cell_text, cell_values, printed


@pytest.mark.parametrize("kind", ODD, ids=str)
def test_a_value_that_python_cannot_hold_is_its_text(kind):
    column = odd_times(kind)
    for cells in (column, pa.chunked_array([column]), column.dictionary_encode()):
        values = cell_values(cells)
        assert values[2] is None
        assert isinstance(values[1], str)
        assert "\x1b" not in values[1]


def test_a_date_or_time_that_is_out_of_range_has_no_text():
    for kind in (pa.date32(), pa.date64(), pa.timestamp("ms", "UTC"), pa.time64("us")):
        texts = printed(odd_times(kind))
        assert texts.is_null().to_pylist() == [False, True, True]
    assert printed(odd_times(pa.duration("s"))).null_count == 1


def test_a_time_in_an_unknown_zone_is_printed_in_utc():
    assert cell_text(odd_times(pa.timestamp("ms", "Nowhere/Land"))[0]) == "1970-01-01 00:00:00.007Z"


def test_other_values_are_pythons_own():
    assert cell_values(pa.array([1, None])) == [1, None]
    assert cell_values(pa.array([b"\xff"])) == [b"\xff"]


def test_a_string_that_is_not_utf_8_is_its_bytes():
    column = pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"]).buffers())
    assert cell_values(column) == [b"a\xff"]
    assert isinstance(cell_values(pa.array([[1]]).cast(pa.list_(pa.timestamp("s", "Nowhere/Land"))))[0], str)
