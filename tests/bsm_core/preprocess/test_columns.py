from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa
import pytest

from bsm_core.preprocess.columns import NOT_TEXT, table_columns, text_values


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"hi", b"", "é".encode()], pa.binary()),
        pa.array(["hi", None, "é"], pa.string()),
        pa.array(["hi", "", "é"], pa.large_string()),
        pa.array(["hi", None, "é"]).dictionary_encode(),
        pa.chunked_array([["hi"], [None, "é"]]),
        ["hi", None, "é"],
        ["hi", math.nan, "é".encode()],
    ],
    ids=["binary", "string", "large", "dictionary", "chunked", "objects", "nan and bytes"],
)
def test_texts_of_every_type(column):
    assert text_values(column) == (["hi", "", "é"], [])


def test_a_column_of_nulls_is_empty_text_and_no_warning():
    assert text_values(pa.nulls(2)) == (["", ""], [])


def test_undecodable_bytes_lose_their_own_row_alone():
    texts, failures = text_values(pa.array([b"ok", b"\xff\xfe", b"fine"], pa.binary()))
    assert texts == ["ok", "", "fine"]
    assert [(f.row, f.step) for f in failures] == [(1, NOT_TEXT)]
    assert "UTF-8" in failures[0].reason


@pytest.mark.parametrize("column", [pa.array([None, 3]), pa.array([None, [1]]), [None, 3], [None, ["x"]]])
def test_values_that_are_not_text(column):
    texts, failures = text_values(column)
    assert texts == ["", ""]
    assert [f.row for f in failures] == [1]
    assert "is not text" in failures[0].reason


def test_the_columns_of_a_frame_and_of_a_table_and_the_index_of_the_frame():
    frame = pd.DataFrame({"a": [1, None], "b": [1, "x"], "c": [0, 0]}, index=[7, 8])
    columns, index = table_columns(frame, {"b": "me", "a": "me"})
    assert list(columns) == ["b", "a"]
    assert columns["b"] == [1, "x"]
    assert columns["a"].to_pylist() == [1.0, None]
    assert index.tolist() == [7, 8]
    columns, index = table_columns(pa.table({"a": [1, 2]}), {"a": "me"})
    assert (columns["a"].to_pylist(), index) == ([1, 2], None)
