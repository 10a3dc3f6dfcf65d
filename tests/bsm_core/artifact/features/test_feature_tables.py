from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact.features.feature_tables import (
    bin_text,
    check_impute,
    check_risk_tables,
    read_impute,
    read_risk_tables,
)
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError

TABLES = {"channel": {"bins": {"online": 0.1}, "default_bin": 0.2}}


@pytest.mark.parametrize(
    ("key", "text"),
    [("a ", "a "), (3, "3"), (3.0, "3.0"), (True, "True"), (None, "nan"), (math.nan, "nan"), ("", ""), (1e22, "1e+22")],
)
def test_a_category_as_text(key, text):
    assert bin_text(key) == text


@pytest.mark.parametrize("key", [(1, 2), b"a", frozenset()])
def test_a_category_that_is_neither_text_nor_number(key):
    with pytest.raises(TypeError, match="neither text nor a number"):
        bin_text(key)


@given(
    bins=st.dictionaries(
        st.text() | st.integers() | st.floats(), st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5
    )
)
def test_the_pickle_and_its_json_twin_give_the_same_tables(tmp_path_factory, bins):
    texts = {bin_text(key): value for key, value in bins.items()}
    if len(texts) < len(bins):
        return
    folder = tmp_path_factory.mktemp("twins")
    (folder / "risk_table_map.pkl").write_bytes(pickle.dumps({"f": {"bins": bins, "default_bin": 1}}))
    pickled = read_risk_tables(folder)
    (folder / "risk_table_map.json").write_text(json.dumps({"f": {"bins": texts, "default_bin": 1}}))
    assert read_risk_tables(folder) == pickled == {"f": {"bins": texts, "default_bin": 1.0}}


def test_the_safe_twin_is_read_in_preference(tmp_path):
    (tmp_path / "impute_dict.pkl").write_bytes(b"not even a pickle")
    (tmp_path / "impute_dict.json").write_text('{"a": 1}')
    assert read_impute(tmp_path) == {"a": 1.0}


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), 0.5, np.float64(0.5)])
def test_numbers_of_any_kind_become_floats(tmp_path, value):
    (tmp_path / "impute_dict.pkl").write_bytes(pickle.dumps({np.str_("a"): value, "b": np.int64(2)}))
    back = read_impute(tmp_path)
    assert back == {"a": 0.5, "b": 2.0}
    assert [type(number) for number in back.values()] == [float, float]


def test_every_wrong_value_of_impute_is_listed():
    with pytest.raises(CorruptArtifactError) as caught:
        check_impute({"a": "1", "b": 1e39, "c": math.inf, "d": True, "e": [1], "fine": 1}, where="impute_dict.json")
    assert [line.partition(":")[0] for line in caught.value.details] == ["a", "b", "c", "d", "e"]
    assert "impute_dict.json" in str(caught.value)


def test_every_wrong_place_of_the_risk_tables_is_listed():
    tables = {
        "no_table": 3,
        "no_bins": {"default_bin": 1},
        "no_default": {"bins": {}},
        "bad_default": {"bins": {}, "default_bin": "x"},
        "bad_bin": {"bins": {"a": "high", (1, 2): 1}, "default_bin": 0},
        "fine": {"bins": {"a": 1}, "default_bin": 0},
    }
    with pytest.raises(CorruptArtifactError) as caught:
        check_risk_tables(tables, where="risk_table_map.pkl")
    assert [line.split(":")[0].split("[")[0] for line in caught.value.details] == [
        "no_table",
        "no_bins",
        "no_default",
        "bad_default.default_bin",
        "bad_bin.bins",
        "bad_bin.bins",
    ]


def test_categories_that_read_alike_must_agree():
    agree = {"f": {"bins": {1: 0.5, "1": 0.5, None: 0.1, math.nan: 0.1}, "default_bin": 0}}
    assert check_risk_tables(agree, where="x")["f"]["bins"] == {"1": 0.5, "nan": 0.1}
    differ = {"f": {"bins": {1: 0.5, "1": 0.25}, "default_bin": 0}}
    with pytest.raises(CorruptArtifactError, match="several categories have this text"):
        check_risk_tables(differ, where="x")


def test_the_table_of_a_text_field_is_left_out_unchecked(tmp_path):
    (tmp_path / "risk_table_map.pkl").write_bytes(pickle.dumps(TABLES | {"dialogue": "no table at all"}))
    assert read_risk_tables(tmp_path, ignored=["dialogue"]) == TABLES
    with pytest.raises(CorruptArtifactError, match="dialogue"):
        read_risk_tables(tmp_path)


@pytest.mark.parametrize("name", ["impute_dict.json", "impute_dict.pkl"])
def test_something_else_than_a_dict_is_corrupt(tmp_path, name):
    (tmp_path / name).write_bytes(b"[1]" if name.endswith("json") else pickle.dumps([1]))
    with pytest.raises(CorruptArtifactError, match=f"{name} holds a list"):
        read_impute(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_json_that_is_none_is_corrupt(tmp_path, data):
    (tmp_path / "impute_dict.json").write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"impute_dict\.json cannot be read as JSON"):
        read_impute(tmp_path)


def test_code_in_a_table_is_refused(tmp_path):
    (tmp_path / "risk_table_map.pkl").write_bytes(b"cos\nsystem\n(Vtrue\ntR.")
    with pytest.raises(UnsafeArtifactError, match=r"os\.system"):
        read_risk_tables(tmp_path)


def test_no_table_at_all_is_empty(tmp_path):
    assert read_impute(tmp_path) == {}
    assert read_risk_tables(tmp_path) == {}


def test_twins_that_agree_are_one(tmp_path):
    (tmp_path / "impute_dict.pkl").write_bytes(pickle.dumps({"a": np.float32(0.1)}))
    (tmp_path / "impute_dict.json").write_text('{"a": 0.1}')
    assert read_impute(tmp_path) == {"a": 0.1}


def test_twins_that_differ_are_an_error_that_names_both(tmp_path):
    (tmp_path / "impute_dict.pkl").write_bytes(pickle.dumps({"a": 1.0, "b": 2.0}))
    (tmp_path / "impute_dict.json").write_text('{"a": 1.0, "b": 92.0}')
    with pytest.raises(CorruptArtifactError, match=r"impute_dict\.json and impute_dict\.pkl") as caught:
        read_impute(tmp_path)
    assert caught.value.details == ("the first difference: b is 92.0 and 2.0",)
    table = {"c": {"bins": {3: 0.5}, "default_bin": 0.1}}
    (tmp_path / "risk_table_map.pkl").write_bytes(pickle.dumps(table))
    (tmp_path / "risk_table_map.json").write_text(json.dumps(table))
    assert read_risk_tables(tmp_path)["c"]["bins"] == {"3": 0.5}
    (tmp_path / "risk_table_map.json").write_text(json.dumps({"c": {"bins": {}, "default_bin": 0.1}}))
    with pytest.raises(CorruptArtifactError) as caught:
        read_risk_tables(tmp_path)
    assert caught.value.details == ("the first difference: c.bins.3 is not there and 0.5",)


def test_a_feature_that_had_no_value_in_training_has_none():
    values = {"a": None, "b": math.nan, "c": np.float32("nan"), "d": 1}
    assert check_impute(values, where="impute_dict.json") == {"d": 1.0}
