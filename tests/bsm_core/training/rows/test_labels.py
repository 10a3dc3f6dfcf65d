from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bsm_core.errors import DataError
from bsm_core.training.rows.labels import class_indices, class_order


def indices(column, classes=2, given=None):
    order = class_order(column, "y", classes, given)
    return order, class_indices(column, "y", order).tolist()


@pytest.mark.parametrize(
    ("column", "order"),
    [
        (["1", "0", "1"], [0, 1]),
        (["1.0", "0.0", "1"], [0, 1]),
        ([b"1", b" 0 ", b"1e0"], [0, 1]),
        (pa.array([1, 0, 1], pa.int8()), [0, 1]),
        (pa.array([1.0, 0.0, 1.0]), [0, 1]),
        (pa.chunked_array([[1], [0, 1]]), [0, 1]),
        (pa.array(["1", "0", "1"]).dictionary_encode(), [0, 1]),
        ([True, False, "TRUE"], ["false", "true"]),
        (pa.array([True, False, True]), ["false", "true"]),
        (["true", "False", "True"], ["false", "true"]),
        (["yes", "no", "yes"], ["no", "yes"]),
        (["9", "-2.5", "9.0"], [-2.5, 9]),
        (["b", "9", "b"], [9, "b"]),
        (["1e1000000", "1", "1e1000000"], [1, "1E+1000000"]),
        ([f"0.123456789012345678{i}" for i in (9, 8, 9)], ["0.1234567890123456788", "0.1234567890123456789"]),
        (["12345678901234567890", "0e99", "12345678901234567890.0"], [0, 12345678901234567890]),
        (["10", "9", "10"], [9, 10]),
        (["été", "ça", "été"], ["ça", "été"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array | pa.ChunkedArray) else str(value),
)
def test_labels_of_any_spelling_stand_in_order(column, order):
    got, labels = indices(column)
    assert got == order
    assert [type(value) for value in got] == [type(value) for value in order]
    assert labels == [1, 0, 1]


MOMENTS = [dt.datetime(2024, 1, 31, 12), dt.datetime(2024, 2, 1)]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (MOMENTS, "2024"),
        ([dt.time(1), dt.time(2)], "time"),
        ([dt.timedelta(1), dt.timedelta(2)], "imedelta"),
        ([[1], [2]], "[1]"),
        ([{"a": 1}, {"a": 2}], "{'a': 1}"),
    ],
    ids=["datetime", "time", "timedelta", "list", "dict"],
)
@pytest.mark.parametrize("make", [pa.array, list], ids=["arrow", "python"])
def test_values_that_are_no_class_are_an_error_with_an_example(values, shown, make):
    for check in (lambda cells: class_order(cells, "y", 2, None), lambda cells: class_indices(cells, "y", ["a", "b"])):
        with pytest.raises(DataError, match="which is no class") as caught:
            check(make([None, *values]))
        assert "label_name: column 'y'" in str(caught.value)
        assert shown in str(caught.value)


@pytest.mark.parametrize(
    "cells",
    [[b"a", b"b", b"\xff"], pa.array([b"a", b"b", b"\xff"]), ["a", "b", pd.NaT], ["a", "b", np.datetime64("NaT")]],
    ids=["bytes", "arrow", "pandas", "numpy"],
)
def test_what_has_no_text_is_a_missing_label(cells):
    assert class_order(cells, "y", 2, None) == ["a", "b"]
    with pytest.raises(DataError, match="1 row") as caught:
        class_indices(cells, "y", ["a", "b"])
    assert "which is no class" not in str(caught.value)


def test_dates_decimals_and_texts_in_bytes_are_classes():
    assert indices(pa.array([dt.date(2024, 2, 1), dt.date(2024, 1, 31)])) == (["2024-01-31", "2024-02-01"], [1, 0])
    assert indices([dt.date(2024, 2, 1), dt.date(2024, 1, 31)]) == (["2024-01-31", "2024-02-01"], [1, 0])
    assert indices(pa.array([Decimal("1.50"), Decimal("0.25")])) == ([0.25, 1.5], [1, 0])
    assert indices(pa.array([b"b", b"a"])) == (["a", "b"], [1, 0])


def test_the_config_decides_the_order_and_how_a_class_is_spelled():
    assert indices(["1", "0", "1"], given=["1.0", 0]) == (["1.0", 0], [0, 1, 0])
    assert indices(["up", "down"], 3, given=["up", "level", "down"]) == (["up", "level", "down"], [0, 2])


@pytest.mark.parametrize(
    ("cells", "classes", "given", "words"),
    [
        (["a", "b", "c", "a"], 2, None, ["'y' has 3 class(es), the config expects 2", "'a' (2 rows), 'b'", "es to 3"]),
        (["a", "b"], 3, None, ["has 2 class(es), the config expects 3", "num_classes to 2 and is_binary to true"]),
        (["a", "a"], 2, None, ["has 1 class(es)", "at least two classes"]),
        (["a", "a"], 1, None, ["has 1 class(es)", "at least two classes"]),
        ([None, ""], 2, None, ["has 0 class(es)", "classes: none"]),
        (["a", "b"], 2, ["a", "b", "c"], ["has 3 class(es), the config expects 2", "'c' (0 rows)"]),
        (["1", "2"], 2, ["1", 1.0], ["has 1 class(es)"]),
        ([str(i / 7) for i in range(50)], 2, None, ["has 50 class(es)", ", ..."]),
    ],
    ids=["too many", "too few", "one", "one of one", "none", "given too many", "given twice", "numbers"],
)
def test_another_number_of_classes_names_them(cells, classes, given, words):
    with pytest.raises(DataError) as caught:
        class_order(cells, "y", classes, given)
    assert caught.value.where == "column 'y'"
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("missing", ["", None, float("nan"), "nan", "NaN"], ids=repr)
def test_a_missing_label_is_no_class_and_names_its_row(missing):
    with pytest.raises(DataError) as caught:
        indices(["a", missing, "b"])
    assert caught.value.details == ("row 2: no label", "classes: 'a', 'b'")


def test_of_many_rows_without_a_class_the_first_are_named():
    with pytest.raises(DataError, match=r"^12 row\(s\) have no label, or a label that is not one") as caught:
        class_indices(["a"] * 3 + ["c"] * 12, "y", ["a", "b"])
    assert caught.value.details[0] == "row 4: 'c'"
    assert caught.value.details[10:] == ("...", "classes: 'a', 'b'")
    assert caught.value.where == "data, column 'y'"


@pytest.mark.parametrize(
    ("column", "positive", "order"),
    [
        (["1", "0"], 0, [1, 0]),
        (["1", "0"], "1.0", [0, 1]),
        (["yes", "no"], "no", ["yes", "no"]),
        (["yes", "no"], "yes", ["no", "yes"]),
        (pa.array([True, False]), False, ["true", "false"]),
    ],
    ids=str,
)
def test_the_positive_class_is_the_last_of_two(column, positive, order):
    assert class_order(column, "y", 2, None, positive) == order


def test_a_positive_class_that_is_no_label_names_the_nearest():
    with pytest.raises(
        DataError, match="positive_class is 'chrned', which is not a label; did you mean 'churned'"
    ) as got:
        class_order(["churned", "stayed"], "y", 2, None, "chrned")
    assert got.value.where == "config.positive_class"
    assert "'churned', 'stayed'" in got.value.fix


def test_labels_may_lack_where_the_caller_says_so_but_not_be_wrong():
    assert class_indices(["a", "", None, "b"], "y", ["a", "b"], may_lack=True).tolist() == [0, -1, -1, 1]
    with pytest.raises(DataError, match=r"^1 row\(s\) have no label, or a label that is not one") as caught:
        class_indices(["a", "", "c"], "y", ["a", "b"], may_lack=True)
    assert caught.value.details[0] == "row 3: 'c'"
    assert "on_missing_label" not in caught.value.fix
    with pytest.raises(DataError, match="on_missing_label") as caught:
        class_indices(["a", ""], "y", ["a", "b"])
