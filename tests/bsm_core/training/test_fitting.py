from __future__ import annotations

import math

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.errors import DataError
from bsm_core.preprocess.features import RiskTable
from bsm_core.training.features.feature_keys import FeatureKinds
from bsm_core.training.fitting import balanced_weights, fit_impute, fit_risk_tables, tell_missing
from bsm_core.training.rows.data import Rows

LABELS = torch.tensor([1, 1, 0, 0, 1, 0])
CHANNEL = ["web", "web", "web", "shop", None, ""]


def risk(column=CHANNEL, labels=LABELS, classes=2, smoothing=0.0, min_count=1):
    rows = Rows({"x": column, "other": ["?"]}, labels)
    tables = fit_risk_tables(rows, ["x"], classes=classes, smoothing=smoothing, min_count=min_count)
    assert list(tables) == ["x"]
    return tables["x"]


def test_a_risk_is_the_share_of_class_one_and_missing_cells_are_a_category():
    assert risk() == {"bins": {"web": pytest.approx(2 / 3), "shop": 0.0, "nan": 0.5}, "default_bin": 0.5}


COLUMNS = {
    "a": ["1", ""],
    "b": ["n/a", ""],
    "c": [" ", None],
    "d": ["x", None],
    "e": pa.array([[1], None]),
    "t": ["", ""],
}


def missing(numbers, tables=(), one_hot=(), texts=()):
    kinds = FeatureKinds([*numbers], [*tables], [*one_hot])
    tell_missing(COLUMNS, kinds, texts, fit_impute(COLUMNS, numbers))


def test_columns_without_a_value_are_named(caplog):
    missing(["a"], ["d"])
    assert not caplog.messages
    missing(["a", "b"])
    (told,) = caplog.messages
    assert told.startswith("no training row has a value in 'b': the model learns nothing from this column")
    caplog.clear()
    missing(["a", "b"], ["c", "d"], ["e"], ["t"])
    (told,) = caplog.messages
    assert told.startswith("no training row has a value in 'b', 'c', 'e', 't': the model learns nothing from these")


@pytest.mark.parametrize("read", [{"numbers": ["b"]}, {"numbers": [], "texts": ["t"], "one_hot": ["e"]}])
def test_a_model_that_reads_nothing_else_is_an_error(read):
    with pytest.raises(DataError, match="no training row has a value in any column that the model reads"):
        missing(**read)


def test_smoothing_draws_towards_the_mean_of_all_rows():
    labels = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0])
    table = risk(["a", "a", "b", "b", "b", "b", "b", "b"], labels, smoothing=2.0)
    mean = 3 / 8
    assert table["default_bin"] == mean
    assert table["bins"] == {"a": pytest.approx((2 + 2 * mean) / 4), "b": pytest.approx((1 + 2 * mean) / 8)}


def test_a_category_with_too_few_rows_has_no_bin_and_so_the_mean():
    table = risk(min_count=2)
    assert set(table["bins"]) == {"web", "nan"}
    assert RiskTable(**table).transform(["shop", "never seen"]).values.tolist() == [0.5, 0.5]


def test_of_more_classes_a_risk_is_the_mean_class_over_the_highest():
    table = risk(["a", "a", "b"], torch.tensor([4, 2, 1]), classes=5)
    assert table == {"bins": {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}, "default_bin": pytest.approx(7 / 12)}


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "3", "3.0", "nan", "", None]), st.integers(0, 3)), min_size=1),
    st.floats(0, 50),
    st.integers(1, 3),
)
def test_every_risk_lies_between_nought_and_one_and_is_what_a_row_finds(rows, smoothing, min_count):
    cells, labels = zip(*rows, strict=True)
    table = risk(list(cells), torch.tensor(labels), classes=4, smoothing=smoothing, min_count=min_count)
    values = [*table["bins"].values(), table["default_bin"]]
    assert all(0 <= value <= 1 and math.isfinite(value) for value in values)
    found = RiskTable(**table).transform(list(cells)).values
    for cell, value in zip(cells, found, strict=True):
        if (text := cell or "nan") in table["bins"]:
            assert value == pytest.approx(table["bins"][text])


@pytest.mark.parametrize(
    "column",
    [pa.array([3, 3, 4]), pa.array([3.0, 3.0, 4.0]), pa.array([b"3", b"3", b"4"]), ["3", 3, 4.0]],
    ids=["int", "float", "bytes", "mixed"],
)
def test_a_table_fitted_on_one_type_serves_the_others(column):
    table = risk(column, torch.tensor([1, 0, 1]))
    for other in (pa.array([3, 4]), pa.array([3.0, 4.0]), pa.array([b"3", b"4.0"])):
        assert RiskTable(**table).transform(other).values.tolist() == [0.5, 1.0]


def test_medians_ignore_missing_unparsable_and_infinite_cells():
    columns = {
        "text": ["1", "", "x", "inf", "3", "10"],
        "typed": pa.array([2.0, None, math.nan, math.inf]),
        "truth": pa.array([True, True, False]),
        "even": ["1", "2"],
        "unread": ["7"],
    }
    assert fit_impute(columns, ["text", "typed", "truth", "even"]) == {
        "text": 3.0,
        "typed": 2.0,
        "truth": 1.0,
        "even": 1.5,
    }


def test_a_median_between_large_numbers_is_finite():
    columns = {"a": pa.array([3.3e38, 3.2e38])}
    assert fit_impute(columns, ["a"]) == {"a": pytest.approx(3.25e38)}


def test_a_feature_without_a_number_has_no_imputation_value():
    assert fit_impute({"a": ["", None], "b": pa.nulls(2), "c": pa.array([], pa.float64())}, ["a", "b", "c"]) == {}


def test_features_of_texts_alone_are_refused_all_at_once():
    columns = {"a": ["x", ""], "b": ["1", "x"], "c": ["red", "blue"]}
    with pytest.raises(DataError, match="features that have values, but no number: 'a', 'c'") as caught:
        fit_impute(columns, ["a", "b", "c"])
    assert "cat_field_list" in caught.value.fix


def test_balanced_weights_are_inverse_to_how_often_a_class_occurs():
    assert balanced_weights(torch.tensor([0, 0, 0, 1]), 2) == [4 / 6, 2.0]
    assert balanced_weights(torch.tensor([0, 2]), 3) == [2 / 3, 1.0, 2 / 3]


@pytest.mark.parametrize(
    ("cell", "key"), [("1,50", "csv_decimal"), ("1.234,50", "csv_thousands"), ("1,234", "csv_thousands")]
)
def test_numbers_of_another_spelling_are_no_categories(cell, key):
    with pytest.raises(DataError, match="say how the numbers are spelled") as caught:
        fit_impute({"price": [cell, "", cell]}, ["price"])
    [advice] = caught.value.details
    assert key in advice
