from __future__ import annotations

import csv
import datetime
import io
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.odd_times import ODD, odd_times

from bsm_core.errors import MissingColumnsError, UsageError
from bsm_core.preprocess.columns import as_numbers, table_columns, text_values
from bsm_core.preprocess.features import Features, Imputer, RiskTable


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
    assert text_values(column) == (["hi", "", "é"], {})


def test_a_column_of_nulls_is_empty_text_and_no_warning():
    assert text_values(pa.nulls(2)) == (["", ""], {})


def test_undecodable_bytes_lose_their_own_row_alone():
    texts, bad = text_values(pa.array([b"ok", b"\xff\xfe", b"fine"], pa.binary()))
    assert texts == ["ok", "", "fine"]
    assert list(bad) == [1]
    assert "UTF-8" in bad[1]


@pytest.mark.parametrize("column", [pa.array([None, [1]]), [None, {}], [None, ["x"]]])
def test_values_that_are_not_text(column):
    texts, bad = text_values(column)
    assert texts == ["", ""]
    assert list(bad) == [1]
    assert "is not text" in bad[1]


STAMP = datetime.datetime(2024, 1, 31, 5, 6, 7)
PRINTED = [
    ([3, None, -5], ["3", "", "-5"]),
    ([0.5, math.nan, 1e22, None], ["0.5", "", "1e+22", ""]),
    ([True, False, None], ["True", "False", ""]),
    ([Decimal("1.10"), None], ["1.10", ""]),
    ([datetime.date(2024, 1, 31), None], ["2024-01-31", ""]),
    ([STAMP, None], ["2024-01-31 05:06:07", ""]),
    ([datetime.time(3, 4, 5), None], ["03:04:05", ""]),
]


@pytest.mark.parametrize(("values", "texts"), PRINTED)
def test_numbers_booleans_dates_and_times_are_their_text(values, texts):
    column = pa.array(values)
    assert text_values(column) == (texts, {})
    assert text_values(pa.chunked_array([column[:1], column[1:]])) == (texts, {})
    assert text_values(values) == (texts, {})


@pytest.mark.parametrize(("values", "texts"), PRINTED)
def test_the_text_of_a_value_is_the_cell_that_pandas_writes(values, texts):
    frame = pd.DataFrame({"a": pd.array(values, dtype=object)})
    cells = list(csv.reader(io.StringIO(frame.to_csv(header=False))))
    assert [cell for _, cell in cells] == texts


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([0.1], pa.float32()), "0.1"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array([datetime.date(2024, 1, 31)], pa.date64()), "2024-01-31"),
        (pa.array([STAMP], pa.timestamp("ns", "UTC")), "2024-01-31 05:06:07+00:00"),
        (pa.array([Decimal("1.10")], pa.decimal256(60, 2)), "1.10"),
        (pa.array([1], pa.time64("ns")), "00:00:00.000000001"),
        (pa.array([5], pa.duration("s")), "0 days 00:00:05"),
        (pa.array([7, 7]).dictionary_encode(), "7"),
        (pa.chunked_array([pa.array([7]).dictionary_encode(), pa.array([8, 7])[1:].dictionary_encode()]), "7"),
        ([np.float32(0.1)], "0.1"),
        ([np.bool_(True)], "True"),
        ([pd.Timestamp("2024-01-31")], "2024-01-31 00:00:00"),
    ],
    ids=str,
)
def test_the_text_of_other_types(column, text):
    texts, bad = text_values(column)
    assert (set(texts), bad) == ({text}, {})


FAR = dict.fromkeys(ODD, "") | {
    pa.timestamp("s"): "36534630048-05-13 13:56:16",
    pa.timestamp("ms"): "36536598-01-28 21:54:06.976000",
    pa.duration("s"): "13343998895912 days 13:56:16",
}
"""Text of the far value of a type; empty if it has none."""


@pytest.mark.parametrize("kind", ODD, ids=str)
def test_a_time_has_the_same_text_whatever_the_other_rows_hold(kind):
    column = odd_times(kind)
    texts, bad = text_values(column)
    assert texts[0].startswith(("1970-01-0", "0 days 00:00:07", "00:00:00.000007"))
    assert texts[1:] == [FAR[kind], ""]
    assert bad == ({} if FAR[kind] else {1: "a date or time that is out of range"})
    assert text_values(column.slice(0, 1))[0] + text_values(column.slice(1, 1))[0] == texts[:2]


def test_strings_that_are_not_utf_8_lose_their_own_row_alone():
    column = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"a\xff"]).buffers())
    texts, bad = text_values(column)
    assert (texts, list(bad)) == (["ok", ""], [1])


def test_missing_python_values_are_empty_text():
    missing = [None, math.nan, pd.NA, pd.NaT, Decimal("nan"), np.float32("nan"), np.datetime64("NaT")]
    assert text_values(missing) == ([""] * 7, {})
    assert text_values(pa.chunked_array([], pa.int64())) == ([], {})


def test_the_columns_of_a_frame_and_of_a_table_and_the_index_of_the_frame():
    frame = pd.DataFrame({"a": [1, None], "b": [1, "x"], "c": [0, 0]}, index=[7, 8])
    columns, index = table_columns(frame, {"b": "me", "a": "me"})
    assert list(columns) == ["b", "a"]
    assert columns["b"] == [1, "x"]
    assert columns["a"].to_pylist() == [1.0, None]
    assert index.tolist() == [7, 8]
    columns, index = table_columns(pa.table({"a": [1, 2]}), {"a": "me"})
    assert (columns["a"].to_pylist(), index.tolist()) == ([1, 2], [0, 1])


class Stream:
    """A frame of a library that has Arrow's PyCapsule interface and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


COLUMNS = {"a": [1, None, 3], "b": ["x", "y", ""]}


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame(COLUMNS),
        pa.table(COLUMNS),
        pa.record_batch(COLUMNS),
        pa.table(COLUMNS).to_reader(),
        Stream(pa.table(COLUMNS)),
        COLUMNS,
        {"a": pd.Series([1, None, 3]), "b": pa.array(["x", "y", ""])},
        {"a": np.array([1, math.nan, 3]), "b": Stream(pa.chunked_array([["x", "y"], [""]]))},
        {"a": (1, None, 3), "b": pd.Index(["x", "y", ""])},
        [{"a": 1, "b": "x"}, {"b": "y"}, {"b": "", "a": 3, "c": []}],
    ],
    ids=lambda data: type(data).__name__,
)
def test_a_table_of_any_kind(data):
    columns, index = table_columns(data, {"b": "me", "a": "me"})
    assert list(columns) == ["b", "a"]
    assert Imputer(9).transform(columns["a"]).values.tolist() == [1, 9, 3]
    assert text_values(columns["b"]) == (["x", "y", ""], {})
    assert index.tolist() == [0, 1, 2]


def test_a_frame_of_polars():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None, 3], "b": polars.Series(["x", "y", ""], dtype=polars.Categorical)})
    columns, _ = table_columns(frame, {"a": "me", "b": "me"})
    assert Imputer(9).transform(columns["a"]).values.tolist() == [1, 9, 3]
    assert text_values(columns["b"]) == (["x", "y", ""], {})
    with pytest.raises(UsageError, match="LazyFrame is not a table") as caught:
        table_columns(frame.lazy(), {"a": "me"})
    assert "call collect() of the LazyFrame first" in caught.value.fix


def test_values_of_python_keep_their_type():
    columns, _ = table_columns(
        {"a": [1, "x", 2.5], "b": [1, None, 3], "c": [True, False, None]}, dict.fromkeys("abc", "")
    )
    assert [text_values(column)[0] for column in columns.values()] == [
        ["1", "x", "2.5"],
        ["1", "", "3"],
        ["True", "False", ""],
    ]


@pytest.mark.parametrize("empty", [{"a": []}, [], pd.DataFrame({"a": []}), pa.table({"a": []})], ids=repr)
def test_a_table_without_rows(empty):
    columns, index = table_columns(empty, {"a": "me"})
    assert (len(columns["a"]), len(index)) == (0, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": "text"}, "the column 'a' is a str"),
        ({"a": 1}, "the column 'a' is a int"),
        ({"a": {1, 2}}, "the column 'a' is a set"),
        ({"a": np.zeros((2, 2))}, "the column 'a' cannot be read: ValueError"),
        ({"a": [1], "b": [1, 2]}, "the columns have different numbers of values"),
        (Stream(pa.chunked_array([["x"]])), "Stream cannot be read as an Arrow table"),
    ],
)
def test_a_table_that_is_none(data, words):
    with pytest.raises(UsageError, match=words):
        table_columns(data, dict.fromkeys("ab" if isinstance(data, Stream) or "b" in data else "a", "me"))


def test_columns_that_no_row_has_are_missing():
    for data in ({"b": [1]}, [{"b": 1}, {"b": 2}]):
        with pytest.raises(MissingColumnsError, match="'a', wanted by me"):
            table_columns(data, {"a": "me", "b": "me"})


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([10**20, 3, None], [1e20, 3, 9]),
        ([10**5000, 3], [9, 3]),
        ([1 + 2j, 3], [9, 9]),
        (pd.cut([1, 5, math.nan], [0, 2, 9]), [9, 9, 9]),
        (pd.arrays.SparseArray([1.0, 0.0]), [1, 0]),
        (pd.period_range("2024", periods=2, freq="Y"), [2024, 2025]),
    ],
    ids=["huge", "very huge", "complex", "cut", "sparse", "periods"],
)
def test_whatever_a_frame_holds_is_a_number_or_an_issue(values, numbers):
    frame = pd.DataFrame({"a": values})
    column = table_columns(frame, {"a": "me"})[0]["a"]
    columns = {"a": column}
    made, _, _ = Features(["a"], {"a": Imputer(9)}, {}).transform(columns, len(frame))
    assert made[:, 0].tolist() == [np.float32(number) for number in numbers]
    texts, bad = text_values(column)
    assert all(texts[row] for row in range(len(frame)) if row not in bad and not frame["a"].isna()[row])


def test_an_interval_is_a_category_by_its_text():
    column = table_columns(pd.DataFrame({"a": pd.cut([1, 5, math.nan], [0, 2, 9])}), {"a": "me"})[0]["a"]
    assert RiskTable({"(0.0, 2.0]": 0.5, "nan": 0.25}, 0.125).transform(column).values.tolist() == [0.5, 0.125, 0.25]


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_text_is_cut_at_the_limit(letter):
    most = 1_000_000 // len(letter.encode())
    column = ["", letter * most, letter * (most + 1), 7]
    for given in (column, pa.array(column[:3]), pa.array([text.encode() for text in column[:3]])):
        texts, bad = text_values(given, 1)
        assert texts[1] == texts[2] == column[1]
        assert bad == {2: "text longer than 1 MB (--max-cell-mb)"}
    assert text_values(column)[1] == {}


# Numbers in a column of text


@pytest.mark.parametrize(
    ("cells", "numbers", "kind"),
    [
        (["1", "", " 3", None], [1, None, 3, None], pa.int64()),
        (["9007199254740993", "-1", "+5"], [2**53 + 1, -1, 5], pa.int64()),
        (["1", "2.50", "NA", "1e5"], [1, 2.5, None, 1e5], pa.float64()),
        (["12345678901234567890"], [12345678901234567890.0], pa.float64()),
        (["", "nan"], [None, None], pa.float64()),
    ],
)
def test_columns_of_numbers(cells, numbers, kind):
    found = as_numbers(pa.chunked_array([cells]), may_be_id=False)
    assert found.to_pylist() == numbers
    assert found.type == kind


@pytest.mark.parametrize("cells", [["x", "1"], ["1e400"], ["true"], [" False"], ["007", "1"], ["-00"], ["1,5"], []])
@pytest.mark.parametrize("may_be_id", [True, False])
def test_columns_of_text(cells, may_be_id):
    column = pa.chunked_array([pa.array(cells, pa.string())])
    assert as_numbers(column, may_be_id=may_be_id) is column


@pytest.mark.parametrize("cell", ["+1", "1e5", "NA", "nan", " 1", "1 ", "1234567890123456"])
def test_a_column_that_may_be_the_id_stays_text_where_a_number_would_change_it(cell):
    column = pa.chunked_array([[cell, "2"]])
    assert as_numbers(column, may_be_id=True) is column
    assert as_numbers(column, may_be_id=False) is not column
    assert as_numbers(pa.chunked_array([["1.5", "2", ""]]), may_be_id=True).to_pylist() == [1.5, 2, None]
