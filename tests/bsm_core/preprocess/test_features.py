"""Features, against a reference that goes row by row, and from CSV bytes against Parquet types."""

from __future__ import annotations

import datetime
import math
import pickle
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.odd_times import ODD, odd_times

from bsm_core.artifact.features.feature_scaling import check_feature_scaling
from bsm_core.preprocess.cells import category_key, category_texts
from bsm_core.preprocess.features import MISSING_NUMBER, Features, Imputer, RiskTable, processors
from bsm_core.preprocess.findings import CategoryCounts, Findings, Issue


def csv(*cells: str | bytes) -> pa.Array:
    return pa.array([c.encode() if isinstance(c, str) else c for c in cells], pa.binary())


def bits(values: np.ndarray) -> list[int]:
    assert values.dtype == np.float32
    return values.view(np.uint32).tolist()


def impute_one(cell: str | bytes, value: float = -1.0) -> tuple[float, int]:
    column = Imputer(value).transform(csv(cell))
    return float(column.values[0]), len(column.bad)


# Numbers


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("3.5", 3.5),
        (" 3.5 ", 3.5),
        ("+3", 3.0),
        ("-3", -3.0),
        ("1e5", 100000.0),
        ("1E-2", 0.01),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("5.", 5.0),
        ("3\n", 3.0),
        ("0" * 60 + "7", 7.0),
        ("1" + "0" * 20, 1e20),
        ("1e-400", 0.0),
        ("true", 1.0),
        ("True", 1.0),
        (" FALSE ", 0.0),
    ],
)
def test_text_that_is_a_number(cell, number):
    assert impute_one(cell) == (np.float32(number), 0)


@pytest.mark.parametrize(
    "cell",
    [
        "1,000",
        "abc",
        "0x10",
        "1_000",
        "1e",
        "e5",
        ".",
        "-",
        "--3",
        "3 4",
        "nan(1)",
        "٣",
        "1/2",
        "2024-01-01",
        b"\xff",
        b"3\xff",
    ],
)
def test_text_that_is_no_number_is_bad(cell):
    assert impute_one(cell, 7.5) == (7.5, 1)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "+inf", "1e39", "-1e300", "1e400", "9" * 50, "1e" + "9" * 30])
def test_infinite_text_is_bad_also_by_float32_overflow(cell):
    assert impute_one(cell, 7.5) == (7.5, 1)


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "NaN", "NA", "N/A", "null", "NULL", "None", "<NA>", "#N/A", " NA ", "-nan", r"\N"]
)
def test_missing_text_is_not_bad(cell):
    assert impute_one(cell, 7.5) == (7.5, 0)


def test_missing_number_is_minus_one_without_an_imputation_value():
    column = Imputer().transform(csv("", "2"))
    assert column.values.tolist() == [MISSING_NUMBER, 2.0] == [-1.0, 2.0]


@pytest.mark.parametrize(
    ("column", "values", "bad"),
    [
        (pa.array([1.5, None, math.nan, math.inf, -math.inf, 1e300]), [1.5, 9, 9, 9, 9, 9], 3),
        (pa.array([1, None, -3], pa.int8()), [1, 9, -3], 0),
        (pa.array([2**63, None], pa.uint64()), [2.0**63, 9], 0),
        (pa.array([0.1, None], pa.float32()), [np.float32(0.1), 9], 0),
        (pa.array([np.float16(0.5), None], pa.float16()), [0.5, 9], 0),
        (pa.array([True, False, None]), [1, 0, 9], 0),
        (pa.array([None, None]), [9, 9], 0),
        (pa.array([Decimal("1.10"), None], pa.decimal128(38, 2)), [np.float32(1.1), 9], 0),
        (pa.array([Decimal("9" * 60)], pa.decimal256(70, 0)), [9], 1),
        (pa.array([Decimal("300")], pa.decimal128(5, -2)), [300], 0),
        (pa.array(["4", "x", None], pa.large_string()), [4, 9, 9], 1),
        (pa.array(["4", "", "x"], pa.string_view()), [4, 9, 9], 1),
        (pa.array([b"4.0", None], pa.binary(3)), [4, 9], 0),
        (pa.array([datetime.date(2024, 1, 1), None]), [9, 9], 1),
        (pa.array([datetime.datetime(2024, 1, 1), None], pa.timestamp("ns", "UTC")), [9, 9], 1),
        (pa.array([5, None], pa.duration("s")), [9, 9], 1),
        (pa.array([[1], None, []]), [9, 9, 9], 2),
        (pa.array([{"a": 1}, None]), [9, 9], 1),
        (pa.array([b"0" * 16, None], pa.uuid()), [9, 9], 1),
        (pa.array([], pa.binary()), [], 0),
        (pa.chunked_array([], pa.float64()), [], 0),
        (pa.chunked_array([["1"], ["x", None], ["2"]]), [1, 9, 9, 2], 1),
        (pa.chunked_array([pa.array([v]).dictionary_encode() for v in ("1", "5")]), [1, 5], 0),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["3", None])), [3, 9, 9], 0),
        (pa.array([1.5, None]).dictionary_encode(), [1.5, 9], 0),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ChunkedArray) else "",
)
def test_numbers_of_every_arrow_type(column, values, bad):
    result = Imputer(9).transform(column)
    assert result.values.tolist() == values
    assert result.values.dtype == np.float32
    assert len(result.bad) == bad


@pytest.mark.parametrize("kind", ODD, ids=str)
def test_times_that_python_cannot_hold_are_issues(kind):
    column = odd_times(kind)
    columns = {"a": column, "b": pa.chunked_array([column])}
    values, found, _ = Features(["a", "b"], {}, {"b": RiskTable({}, 0.5)}).transform(columns, 3)
    assert np.isfinite(values).all()
    reasons = [issue.reason for issue in found.issues if issue.column == "a"]
    assert len(reasons) == 2
    assert "surrogate" not in "".join(issue.reason for issue in found.issues)
    assert not any("\x1b" in issue.value for issue in found.issues)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_a_date_without_a_text_is_no_category(kind):
    column = odd_times(kind)
    assert category_texts(column)[1:] == ["nan", "nan"]
    found = RiskTable({"<value out of range: 2147483647>": 1.0, "2147483647": 1.0}, 0.5).transform(column)
    assert (found.values.tolist(), [*found.bad], found.missing, found.unseen) == ([0.5] * 3, [1], 1, 1)


def test_numbers_of_python_objects():
    missing = [None, math.nan, pd.NA, pd.NaT, Decimal("nan")]
    numbers = ["3.5", 2, True, Decimal("1.5"), np.float32(0.1), b"7", np.str_("8")]
    bad = [1e300, 10**400, 10**5000, 1 + 2j, b"\xff", [1, 2], datetime.date(2024, 1, 1), "\ud800", "1_0"]
    result = Imputer(9).transform([*missing, *numbers, *bad])
    assert result.values.tolist() == [9] * 5 + [3.5, 2, 1, 1.5, np.float32(0.1), 7, 8] + [9] * 9
    assert len(result.bad) == 9
    assert Imputer().transform([]).values.tolist() == []


def test_a_sliced_column_is_read_from_its_own_rows():
    column = csv("1", "x", "3", "", "5").slice(1, 3)
    assert Imputer(9).transform(column).values.tolist() == [9, 3, 9]
    assert RiskTable({"x": 0.5, "3": 0.25}, 0.0).transform(column).values.tolist() == [0.5, 0.25, 0.0]


@given(st.lists(st.floats(allow_nan=False) | st.none()))
def test_a_double_and_its_text_are_the_same_bits(numbers):
    typed = Imputer(0.5).transform(pa.array(numbers, pa.float64()))
    text = Imputer(0.5).transform(csv(*("" if n is None else repr(n) for n in numbers)))
    assert bits(typed.values) == bits(text.values)
    assert typed.bad == text.bad


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()))
def test_an_integer_and_its_text_are_the_same_bits(numbers):
    typed = Imputer(0.5).transform(pa.array(numbers, pa.int64()))
    text = Imputer(0.5).transform(csv(*("" if n is None else str(n) for n in numbers)))
    objects = Imputer(0.5).transform(numbers)
    assert bits(typed.values) == bits(text.values) == bits(objects.values)


@given(st.lists(st.decimals(-(10**28), 10**28, places=8) | st.none()))
def test_a_decimal_and_its_text_are_the_same_bits(numbers):
    typed = Imputer(0.5).transform(pa.array(numbers, pa.decimal128(38, 8)))
    text = Imputer(0.5).transform(csv(*("" if n is None else str(n) for n in numbers)))
    assert bits(typed.values) == bits(text.values)


# Cells of all sorts, for the two references.
CELLS = st.one_of(
    st.sampled_from(["", "nan", "NaN", "NA", "3", "3.0", " 3", "3e0", "-0", "true", "True", "False", "inf", "x", "x "]),
    st.floats().map(repr),
    st.text("0123456789+-.eE_ ", max_size=6),
    st.text(max_size=4),
    st.binary(max_size=3),
).map(lambda cell: cell.encode("utf-8", "surrogatepass") if isinstance(cell, str) else cell)


def reference_number(cell: bytes, value: float) -> tuple[np.float32, bool]:
    """One cell, as a person would do it."""
    try:
        text = cell.decode().strip()
    except UnicodeDecodeError:
        return np.float32(value), True
    if text.lower() in ("", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null", "none", "nat", r"\n"):
        return np.float32(value), False
    if text.lower() in ("true", "false"):
        return np.float32(text.lower() == "true"), False
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", text, re.ASCII):
        return np.float32(value), True
    with np.errstate(over="ignore"):
        number = np.float32(float(text))
    return (number, False) if np.isfinite(number) else (np.float32(value), True)


@given(st.lists(CELLS), st.sampled_from([-1.0, 0.1]))
def test_numbers_equal_the_reference(cells, value):
    result = Imputer(value).transform(csv(*cells))
    expected = [reference_number(cell, value) for cell in cells]
    assert bits(result.values) == bits(np.array([number for number, _ in expected], np.float32))
    assert len(result.bad) == sum(bad for _, bad in expected)


# Risk tables

TABLE = RiskTable({"online": 0.125, "3": 0.25, "4.50": 0.375, "True": 0.5, "nan": 0.625, "DE ": 0.75}, 0.0625)


@pytest.mark.parametrize(
    ("cell", "risk"),
    [
        ("online", 0.125),
        ("Online", 0.0625),
        ("online ", 0.0625),
        ("DE ", 0.75),
        ("DE", 0.0625),
        ("3", 0.25),
        ("3.0", 0.25),
        (" 3 ", 0.25),
        ("+3", 0.25),
        ("3e0", 0.25),
        ("30e-1", 0.25),
        ("3_0", 0.0625),
        ("4.5", 0.375),
        ("1e" + "9" * 30, 0.0625),
        ("True", 0.5),
        ("true", 0.5),
        ("TRUE", 0.5),
        ("1", 0.0625),
        ("", 0.625),
        ("nan", 0.625),
        ("NaN", 0.625),
        ("NA", 0.0625),
    ],
)
def test_risk_of_text(cell, risk):
    result = TABLE.transform(csv(cell, cell))
    assert result.values.tolist() == [risk, risk]
    assert len(result.bad) == 0


@pytest.mark.parametrize(
    ("column", "risks"),
    [
        (pa.array([3.0, 4.5, math.nan, None, 1.0]), [0.25, 0.375, 0.625, 0.625, 0.0625]),
        (pa.array([3, None], pa.int64()), [0.25, 0.625]),
        (pa.array([True, False, None]), [0.5, 0.0625, 0.625]),
        (pa.array([Decimal("3.00"), None]), [0.25, 0.625]),
        (pa.array([None, None]), [0.625, 0.625]),
        (pa.array(["online", "", None], pa.large_string()), [0.125, 0.625, 0.625]),
        (pa.array(["online", "3.0", None]).dictionary_encode(), [0.125, 0.25, 0.625]),
        (pa.chunked_array([["DE "], [None, "x"]]), [0.75, 0.625, 0.0625]),
        (["online", 3, 3.0, True, Decimal("4.5"), b"DE "], [0.125, 0.25, 0.25, 0.5, 0.375, 0.75]),
        ([None, pd.NA, math.nan, "x"], [0.625, 0.625, 0.625, 0.0625]),
        (pa.array([], pa.string()), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ChunkedArray) else "",
)
def test_risk_of_every_type(column, risks):
    result = TABLE.transform(column)
    assert result.values.tolist() == risks
    assert result.values.dtype == np.float32
    assert len(result.bad) == 0


def test_the_exact_text_comes_before_the_number():
    table = RiskTable({"3.0": 0.25, "3": 0.5, "true": 0.75, "True": 1.0}, 0.0)
    assert table.transform(csv("3", "3.0", "3.00", "True", "true")).values.tolist() == [0.5, 0.25, 0.25, 1.0, 0.75]
    assert table.transform(pa.array([3.0])).values.tolist() == [0.25]
    assert table.transform(pa.array([3])).values.tolist() == [0.5]
    assert table.transform(pa.array([True])).values.tolist() == [1.0]


def test_numbers_that_a_double_cannot_tell_apart_stay_apart():
    table = RiskTable({"9007199254740992.0": 0.25, "9007199254740993": 0.5}, 0.0)
    ids = [9007199254740992, 9007199254740993, 9007199254740994, None]
    expected = [0.25, 0.5, 0.0, 0.0]
    assert table.transform(pa.array(ids, pa.int64())).values.tolist() == expected
    assert table.transform(csv(*("" if i is None else str(i) for i in ids))).values.tolist() == expected


def test_a_float32_category_has_its_own_short_text():
    assert RiskTable({"0.1": 0.5}, 0.0).transform(pa.array([0.1], pa.float32())).values.tolist() == [0.5]


def test_a_date_has_its_iso_text():
    table = RiskTable({"2024-01-31": 0.5}, 0.0)
    for kind in (pa.date32(), pa.date64()):
        assert table.transform(pa.array([datetime.date(2024, 1, 31)], kind)).values.tolist() == [0.5]


@pytest.mark.parametrize(
    ("bins", "risk"),
    [({"nan": 0.5, "": 0.25}, 0.5), ({"": 0.25}, 0.25), ({"x": 0.75}, 0.0), ({None: 0.5}, 0.5), ({math.nan: 0.5}, 0.5)],
)
def test_the_bin_of_missing_cells(bins, risk):
    table = RiskTable(bins, 0.0)
    assert table.transform(csv("", "nan")).values.tolist() == [risk, risk]
    assert table.transform(pa.array([None, math.nan])).values.tolist() == [risk, risk]


def test_a_missing_cell_is_its_imputation_value_where_there_is_one():
    table = RiskTable({"2": 0.5, "nan": 0.25}, 0.0)
    assert table.transform(csv("", "nan", "NaN", "x"), missing=2.0).values.tolist() == [0.5, 0.5, 0.5, 0.0]
    assert table.transform(pa.array([None, math.nan]), missing=2.0).values.tolist() == [0.5, 0.5]
    assert table.transform(pa.array([None]), missing=math.nan).values.tolist() == [0.25]
    assert table.transform(pa.array([None, None]), missing=7.0).values.tolist() == [0.0, 0.0]


def test_what_has_no_text_is_bad_and_the_default():
    result = TABLE.transform(csv(b"\xff", b"3", b"\xff"))
    assert (result.values.tolist(), len(result.bad)) == ([0.0625, 0.25, 0.0625], 2)
    result = TABLE.transform(pa.array([["online"], None]))
    assert (result.values.tolist(), len(result.bad)) == ([0.0625, 0.625], 1)
    result = TABLE.transform(pa.array([datetime.datetime(2024, 1, 1), None]))
    assert (result.values.tolist(), len(result.bad)) == ([0.0625, 0.625], 1)


def test_keys_of_a_table_that_are_not_text():
    table = RiskTable({3: 0.25, 4.5: 0.5, True: 0.75, np.int64(8): 1.0}, 0.0)
    assert table.transform(csv("3", "4.5", "True", "8", "1")).values.tolist() == [0.25, 0.5, 0.75, 1.0, 0.0]


def reference_risk(cell: bytes, bins: dict[str, float], default: float) -> float:
    """One cell, as a person would do it; numbers as fractions."""

    def fraction(text: str) -> Fraction | None:
        plain = re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,4})?", text.strip(), re.ASCII)
        return Fraction(text.strip()) if plain else None

    try:
        text = cell.decode()
    except UnicodeDecodeError:
        return default
    missing = bins.get("nan", bins.get("", default))
    if text in ("", "nan"):
        return missing
    if text in bins:
        return bins[text]
    if text.strip().lower() == "nan":
        return missing
    for key, risk in bins.items():
        if key.strip().lower() == text.strip().lower() and key.strip().lower() in ("true", "false"):
            return risk
        if fraction(text) is not None and fraction(key) == fraction(text):
            return risk
    return default


@given(
    st.lists(CELLS),
    st.dictionaries(
        st.sampled_from(["", "nan", "3", "3.0", "-0.0", "true", "False", "x", "x ", "0.10", "1e2", "NA"]),
        st.floats(0, 1, width=32),
    ),
)
def test_risks_equal_the_reference(cells, bins):
    result = RiskTable(bins, 0.5).transform(csv(*cells))
    expected = [reference_risk(cell, bins, 0.5) for cell in cells]
    assert result.values.tolist() == expected


@given(
    st.lists(st.floats(allow_infinity=False) | st.integers(-5, 5).map(float) | st.none()),
    st.dictionaries(st.sampled_from(["", "nan", "0", "1.0", "-2", "3e0"]), st.floats(0, 1, width=32)),
    st.none() | st.sampled_from([1.0, 7.0]),
)
def test_a_double_has_the_risk_of_its_text(numbers, bins, missing):
    table = RiskTable(bins, 0.5)
    typed = table.transform(pa.array(numbers, pa.float64()), missing)
    text = table.transform(csv(*("" if n is None or math.isnan(n) else repr(n) for n in numbers)), missing)
    assert typed.values.tolist() == text.values.tolist()


# All features


def features() -> Features:
    return Features(
        ["score", "channel", "age", "channel", "chat"],
        {"score": Imputer(0.125), "unused": Imputer(5.0)},
        {"channel": RiskTable({"online": 0.25}, 0.5)},
    )


def test_the_matrix_follows_tab_field_list():
    columns = {
        "channel": csv("online", "shop"),
        "chat": csv("hi", "2"),
        "score": csv("x", "3"),
        "age": pa.array([None, 7]),
        "extra": csv("never", "read"),
    }
    made = features()
    matrix, findings, _ = made.transform(columns, 2)
    assert made.columns == ("score", "channel", "age", "chat")
    assert matrix.tolist() == [[0.125, 0.25, -1.0, 0.25, -1.0], [3.0, 0.5, 7.0, 0.5, 2.0]]
    assert findings.issues == [
        Issue(0, "score", "feature", "not a number", "x"),
        Issue(0, "chat", "feature", "not a number", "hi"),
    ]
    assert findings.seen == {"missing:age": 1, "unseen:channel": 1}
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


def test_each_category_is_counted_by_the_spelling_of_its_table():
    table = RiskTable({"web": 0.5, "3": 0.1, "nan": 0.2}, 0.0)
    column = table.transform(csv("web", "3.0", "3", "", "nan", "mail", "web", "mail", b"\xff"))
    assert column.categories == CategoryCounts(Counter({"web": 2, "3": 2}), Counter({"mail": 2}))
    assert (column.missing, column.unseen, [*column.bad]) == (2, 2, [8])
    union = pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array(["web", "mail"]), pa.array([3])]
    )
    assert table.transform(union).categories == CategoryCounts(Counter({"web": 1, "3": 1}), Counter({"mail": 1}))
    _, findings, _ = Features(["n", "c"], {}, {"c": table}).transform({"n": csv("1"), "c": csv("web")}, 1)
    assert findings.categories == {"c": CategoryCounts(Counter({"web": 1}))}


def test_an_imputed_category_is_looked_up_as_its_number():
    made = Features(["n"], {"n": Imputer(2.0)}, {"n": RiskTable({"2": 0.5, "nan": 0.25}, 0.0)})
    assert made.transform({"n": csv("", "2", "9")}, 3)[0].tolist() == [[0.5], [0.5], [0.0]]


def test_no_features_and_no_rows():
    assert Features([], {}, {}).transform({}, 3)[0].shape == (3, 0)
    empty, findings, _ = features().transform({name: pa.array([], pa.binary()) for name in features().columns}, 0)
    assert empty.shape == (0, 5)
    assert findings == Findings([], {})


def test_one_cell_never_stands_for_a_whole_column():
    with pytest.raises(ValueError, match="shape"):
        Features(["n"], {}, {}).transform({"n": csv("1")}, 3)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1))
def test_a_row_does_not_depend_on_its_neighbours(rows):
    made = Features(["n", "c"], {}, {"c": RiskTable({"3": 0.25, "x": 0.75}, 0.5)})
    together = made.transform({"n": csv(*(n for n, _ in rows)), "c": csv(*(c for _, c in rows))}, len(rows))
    alone = [made.transform({"n": csv(n), "c": csv(c)}, 1) for n, c in rows]
    assert bits(together[0].ravel()) == bits(np.concatenate([row[0].ravel() for row in alone]))
    expected = Counter[str]()
    for _, findings, _ in alone:
        expected.update(findings.counts())
    assert together[1].counts() == expected


def test_features_go_to_worker_processes():
    made = pickle.loads(pickle.dumps(features()))
    columns = {name: csv("1") for name in made.columns}
    assert made.transform(columns, 1)[0].tolist() == features().transform(columns, 1)[0].tolist()


def test_features_import_no_torch():
    code = "import sys, bsm_core.preprocess.features; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Categories, for training


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (csv("web", "", " x ", "NaN", b"\xff"), ["web", "nan", " x ", "NaN", "nan"]),
        (pa.array([3, None, 4], pa.int8()), ["3", "nan", "4"]),
        (pa.array([3.0, None, math.nan, 0.1]), ["3.0", "nan", "nan", "0.1"]),
        (pa.array([True, None]), ["True", "nan"]),
        (pa.array([datetime.date(2024, 1, 31)]), ["2024-01-31"]),
        (pa.array([Decimal("1.10")]), ["1.10"]),
        (pa.array([[1], None]), ["nan", "nan"]),
        (pa.chunked_array([pa.array([v]).dictionary_encode() for v in ("a", "b")]), ["a", "b"]),
        (pa.array([], pa.string()), []),
        ([1, "1", None, 2.5, b"x", math.nan], ["1", "1", "nan", "2.5", "x", "nan"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ChunkedArray) else "",
)
def test_the_texts_of_categories(column, texts):
    assert category_texts(column) == texts
    assert all(type(text) is str for text in category_texts(column))


@given(st.lists(st.one_of(st.none(), st.text(), st.integers(-9, 9), st.floats(), st.booleans())))
def test_a_bin_named_by_a_cells_text_is_the_one_that_the_cell_finds(cells):
    texts = category_texts(cells)
    bins = {text: i / 100 for i, text in enumerate(dict.fromkeys(texts))}
    found = RiskTable(bins, -1.0).transform(cells).values
    assert found.tolist() == [np.float32(bins[text]) for text in texts]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3", "3.0", True),
        ("3", " +3e0 ", True),
        ("0.1", "0.10", True),
        ("True", "true ", True),
        ("NaN", "nan", True),
        ("0.1", "0.1000000000000000001", False),
        ("a", "A", False),
        ("a", "a ", False),
        ("true", "1", False),
        ("1e99999999999999999999", "2e99999999999999999999", False),
    ],
)
def test_spellings_of_one_category_have_one_key(one, other, same):
    assert (category_key(one) == category_key(other)) == same
    assert category_key(one) == category_key(one)


# Reasons


@pytest.mark.parametrize(
    ("column", "reasons"),
    [
        (
            csv("1", "abc", "", "-inf", b"\xff", "1e39", "9" * 50, "9" * 100_000 + "x"),
            ["not a number", "infinite", "bytes", "beyond", "beyond", "not a number"],
        ),
        (pa.array([1.0, math.inf, 1e300, math.nan]), ["infinite", "beyond"]),
        (pa.array(["x", "2"], pa.string_view()), ["not a number"]),
        (pa.array([Decimal("9" * 60)], pa.decimal256(70, 0)), ["beyond"]),
        (pa.array([datetime.date(2024, 1, 1), None]), ["a value of type date is not a number"]),
        (pa.array([[1], None]), ["a value of type list is not a number"]),
        (pa.array([1, None], pa.time64("ns")), ["a value of type"]),
        (
            [None, [1], "abc", 1e300, math.inf, b"\xff"],
            ["a value of type list", "not a", "beyond", "infinite", "bytes"],
        ),
    ],
)
def test_each_bad_number_has_its_reason(column, reasons):
    bad = Imputer().transform(column).bad
    assert [reason[: len(wanted)] for reason, wanted in zip(bad.values(), reasons, strict=True)] == reasons


def test_rows_of_bad_cells_and_counts_of_missing_and_unseen_ones():
    column = Imputer().transform(csv("", "x", "2", "NA", "y"))
    assert (list(column.bad), column.missing, column.unseen) == ([1, 4], 2, 0)
    column = TABLE.transform(csv("", "new", "online", b"\xff", "nan", "new"))
    assert (column.bad, column.missing, column.unseen) == ({3: "text that is not UTF-8 is not a category"}, 2, 2)
    assert TABLE.transform(["\ud800", ["x"]]).bad == {0: "half of a surrogate pair is not a category"}


# Scaling


SCALED = processors(
    {"age": 40.0, "plain": 2.0},
    {"shop": {"bins": {"web": 0.25}, "default_bin": 0.5}},
    check_feature_scaling(
        {
            "age": {"kind": "standard", "mean": 40, "std": 10, "missing_indicator": True},
            "paid": {"kind": "robust", "median": 1, "iqr": 2},
            "shop": {"kind": "standard", "mean": 0.5, "std": 0.125},
            "city": {"kind": "one_hot", "categories": ["nan", "3", "Bonn"]},
        },
        where="test",
    ),
)
CELLS_TO_SCALE = {
    "age": ["60", "", "x", "30"],
    "paid": ["5", "1", "", "3"],
    "shop": ["web", "web", "", "?"],
    "city": ["Bonn", "", "Rome", "3.0"],
    "plain": ["7", "", "7", "7"],
}
INPUTS = [
    [2.0, 0.0, 2.0, -2.0, 0.0, 0.0, 1.0, 7.0],
    [0.0, 1.0, 0.0, -2.0, 1.0, 0.0, 0.0, 2.0],
    [0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 7.0],
    [-1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 7.0],
]
"""Inputs of the model by hand; ``paid`` has no imputation value, so that a missing cell is -1."""


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_scaled_features_are_what_a_hand_computes(kind):
    cells = {name: csv(*column) for name, column in CELLS_TO_SCALE.items()}
    if kind == "parquet":
        numbers = {"age": [60, None, math.inf, 30], "paid": [5.0, 1.0, None, 3.0], "plain": [7.0, None, 7.0, 7.0]}
        texts = {"shop": ["web", "web", None, "?"], "city": ["Bonn", None, "Rome", "3.0"]}
        cells = {name: pa.array(column) for name, column in {**numbers, **texts}.items()}
    made = Features([*CELLS_TO_SCALE], *SCALED)
    inputs, findings, unscaled = made.transform(cells, 4)
    assert inputs.tolist() == INPUTS
    assert (inputs.dtype, inputs.flags.c_contiguous) == (np.float32, True)
    assert made.input_names == (
        *("age", "age is missing", "paid", "shop", "city = nan", "city = 3", "city = Bonn", "plain"),
    )
    assert unscaled[:, [0, 1, 2, 4]].tolist() == [
        *([60.0, 5.0, 0.25, 7.0], [40.0, 1.0, 0.25, 2.0], [40.0, -1.0, 0.5, 7.0], [30.0, 3.0, 0.5, 7.0]),
    ]
    counts = {"missing:age": 1, "missing:paid": 1, "missing:shop": 1, "unseen:shop": 1}
    assert findings.seen == {**counts, "missing:city": 1, "unseen:city": 1, "missing:plain": 1}
    assert findings.categories["city"] == CategoryCounts(Counter({"Bonn": 1, "3": 1}), Counter({"Rome": 1}))


def test_numbers_that_float32_cannot_tell_apart_are_scaled_in_float64():
    scaling = check_feature_scaling({"t": {"kind": "standard", "mean": 1.7e9, "std": 2}}, where="test")
    inputs, _, unscaled = Features(["t"], *processors({}, {}, scaling)).transform({"t": csv("1700000001", "1.7e9")}, 2)
    assert inputs.tolist() == [[0.5], [0.0]]
    assert unscaled[0] == unscaled[1]


def test_a_union_of_types_is_scaled_as_each_of_them():
    made = Features(["age"], *SCALED)
    ages = [pa.array(["60", "x"]), pa.array([30.0, None])]
    types, offsets = pa.array([1, 0, 1, 0], pa.int8()), pa.array([0, 0, 1, 1], pa.int32())
    found = made.transform({"age": pa.UnionArray.from_dense(types, offsets, ages)}, 4)[0]
    assert found.tolist() == [[-1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]


def test_a_magnitude_that_training_never_saw_is_told_in_the_units_of_the_table():
    made = Features(["age"], *SCALED, largest={"age": 90.0})
    (example,) = made.transform({"age": csv("50", "100000")}, 2)[1].examples
    assert (example.row, example.value) == (1, "100000.0")


def test_without_scaling_the_values_are_the_inputs():
    made = Features(["a", "b"], {"a": Imputer(2.0)}, {"b": RiskTable({"x": 0.5}, 0.25)})
    inputs, _, unscaled = made.transform({"a": csv("7", ""), "b": csv("x", "y")}, 2)
    assert inputs.tolist() == [[7.0, 0.5], [2.0, 0.25]]
    assert unscaled is None
    assert made.input_names == made.names


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1))
def test_a_scaled_row_does_not_depend_on_its_neighbours(rows):
    made = Features(["age", "city"], *SCALED)
    together = made.transform({"age": csv(*(n for n, _ in rows)), "city": csv(*(c for _, c in rows))}, len(rows))[0]
    alone = [made.transform({"age": csv(n), "city": csv(c)}, 1)[0] for n, c in rows]
    assert bits(together.ravel()) == bits(np.concatenate([row.ravel() for row in alone]))
    assert np.isfinite(together).all()


def test_a_scaled_number_stays_in_the_range_of_float32():
    largest = float(np.finfo(np.float32).max)
    kinds = {
        "a": {"kind": "standard", "mean": -largest, "std": 1e-300},
        "b": {"kind": "robust", "median": largest, "iqr": 1e-10},
    }
    made = Features(["a", "b"], *processors({}, {}, check_feature_scaling(kinds, where="test")))
    cells = {"a": pa.array([largest, -largest]), "b": pa.array([-largest, largest])}
    assert made.transform(cells, 2)[0].tolist() == [[largest, -largest], [0.0, 0.0]]
