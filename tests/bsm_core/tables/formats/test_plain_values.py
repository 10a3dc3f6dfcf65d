"""Rows of columns that Arrow cannot take rows of."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bsm_core.tables.cell_values import cell_values
from bsm_core.tables.formats.plain_values import rows_at


@pytest.mark.parametrize("view", [pa.string_view(), pa.binary_view()], ids=str)
def test_rows_of_views_whose_bytes_are_not_utf8(view):
    storage = pa.array([b"a\xff", b"b"], pa.binary())
    column = (storage.view(pa.string()) if pa.types.is_string_view(view) else storage).cast(view)
    found = rows_at(pa.chunked_array([column]), pa.array([0, None, 1], pa.int64()))
    assert found.type == view
    assert cell_values(found) == [b"a\xff", None, b"b" if pa.types.is_binary_view(view) else "b"]
