from __future__ import annotations

import json
import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.artifact.features.feature_scaling import (
    FEATURE_SCALING,
    MOST_QUANTILES,
    FeatureScaling,
    OneHot,
    QuantileScaling,
    RobustScaling,
    StandardScaling,
    Unscaled,
    check_feature_scaling,
    read_feature_scaling,
    require_trained,
    write_feature_scaling,
)
from bsm_core.errors import CorruptArtifactError

NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
EVERY_KIND = {
    "age": {"kind": "standard", "mean": 43.25, "std": 0.1, "missing_indicator": True},
    "paid": {"kind": "robust", "median": 5, "iqr": 2.5},
    "visits": {"kind": "quantile", "quantiles": [0, 0, 1, 3]},
    "rate": {"kind": "none", "missing_indicator": True},
    "shop": {"kind": "one_hot", "categories": ["web", "nan"]},
}


def scaled(scaling, *values):
    return scaling.scaled(np.array(values, np.float64)).tolist()


# The kinds, with values computed by hand


def test_standard_robust_and_none():
    assert scaled(StandardScaling(mean=10.0, std=4.0), 10, 14, 2) == [0.0, 1.0, -2.0]
    assert scaled(RobustScaling(median=5.0, iqr=2.5), 5, 10, 0) == [0.0, 2.0, -2.0]
    assert scaled(Unscaled(), 5, -1e30) == [5.0, -1e30]


def test_a_quantile_becomes_the_normal_quantile_of_the_middle_of_its_ranks():
    scaling = QuantileScaling(quantiles=(0.0, 0.0, 1.0, 3.0))
    quarter, half, end = (NormalDist().inv_cdf(rank) for rank in (1 / 4, 5 / 8, 7 / 8))
    assert scaled(scaling, 0, 1, 3) == pytest.approx([quarter, half, end])
    assert scaled(scaling, 0.5, 2) == pytest.approx([(quarter + half) / 2, (half + end) / 2])
    assert scaled(scaling, -7, 99) == scaled(scaling, 0, 3)


def test_a_constant_has_the_score_nought():
    assert scaled(QuantileScaling(quantiles=(2.0, 2.0)), 1, 2, 3) == [0.0, 0.0, 0.0]


@given(NUMBERS, st.floats(1e-6, 1e6), st.lists(NUMBERS))
def test_standardizing_can_be_undone(mean, std, values):
    back = np.array(scaled(StandardScaling(mean=mean, std=std), *values)) * std + mean
    assert np.allclose(back, values, rtol=1e-9, atol=1e-9 * max(abs(mean), 1))


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.lists(NUMBERS, min_size=1))
def test_quantiles_keep_the_order_and_have_an_end(quantiles, values):
    scaling = QuantileScaling(quantiles=tuple(sorted(quantiles)))
    found = scaled(scaling, *sorted(values))
    assert all(low <= high + 1e-9 for low, high in pairwise(found))
    limit = NormalDist().inv_cdf(1 - 0.5 / len(quantiles))
    assert all(-limit - 1e-9 <= score <= limit + 1e-9 for score in found)


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.lists(NUMBERS))
def test_quantiles_are_interpolated_as_numpy_does_whatever_the_order_of_the_rows(quantiles, values):
    scaling = QuantileScaling(quantiles=tuple(sorted(quantiles)))
    points, scores = scaling._points
    expected = np.clip(np.interp(values, points, scores), scores[0], scores[-1])
    assert scaled(scaling, *values) == expected.tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("step", [0.0, 5e-324, 1e-300, 1e38])
def test_quantiles_of_any_distance_have_scores(step):
    scaling = QuantileScaling(quantiles=(-step, 0.0, step))
    with np.errstate(over="ignore"):
        found = scaled(scaling, 2 * step, step, 0.0, -step, -2 * step)
    assert found == sorted(found, reverse=True)
    assert found[2] == pytest.approx(0)


def test_the_names_of_the_inputs():
    scaling = check_feature_scaling(EVERY_KIND, where="test")
    names = scaling.input_names(["shop", "age", "plain", "paid", "age"])
    assert names == ("shop = web", "shop = nan", "age", "age is missing", "plain", "paid", "age", "age is missing")
    for feature, each in scaling.features.items():
        assert len(each.input_names(feature)) == each.inputs
    assert OneHot(categories=("a", "b")).bins == {"a": 0.0, "b": 1.0}


# The file


@pytest.mark.parametrize("std", [0.1, 1 / 3, 5e-324, 1e38])
def test_what_is_written_is_read_to_the_last_bit(tmp_path, std):
    scaling = FeatureScaling(features={"a": StandardScaling(mean=-std, std=std)})
    write_feature_scaling(tmp_path, scaling)
    first = (tmp_path / FEATURE_SCALING).read_bytes()
    assert read_feature_scaling(tmp_path) == scaling
    write_feature_scaling(tmp_path, scaling)
    assert (tmp_path / FEATURE_SCALING).read_bytes() == first


def test_every_kind_is_read_as_a_person_may_write_it(tmp_path):
    (tmp_path / FEATURE_SCALING).write_text(json.dumps({"format": 1, "features": EVERY_KIND}))
    assert read_feature_scaling(tmp_path) == check_feature_scaling(EVERY_KIND, where="test")


def test_no_file_no_scaling(tmp_path):
    assert read_feature_scaling(tmp_path) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "standard", "mean": 1}, "std: missing"),
        ({"kind": "standard", "mean": 1, "std": 0}, "std: Input should be greater than 0"),
        ({"kind": "standard", "mean": 1, "std": -1}, "std: Input should be greater than 0"),
        ({"kind": "standard", "mean": math.nan, "std": 1}, "mean: Input should be a finite number"),
        ({"kind": "standard", "mean": 1e39, "std": 1}, "mean: Input should be less than"),
        ({"kind": "standard", "mean": "1", "std": 1}, "mean: Input should be a valid number"),
        ({"kind": "robust", "median": 1, "iqr": math.inf}, "iqr: Input should be a finite number"),
        ({"kind": "robust", "median": 1, "iqr": 1, "code": "x"}, "code: Extra inputs are not permitted"),
        ({"kind": "quantile", "quantiles": [2, 1]}, "the quantiles are not in ascending order"),
        ({"kind": "quantile", "quantiles": []}, "at least 1 item"),
        ({"kind": "quantile", "quantiles": [1] * (MOST_QUANTILES + 1)}, "at most 1000 items"),
        ({"kind": "one_hot", "categories": ["a", "a"]}, "a category is listed twice"),
        ({"kind": "one_hot", "categories": [str(i) for i in range(51)]}, "at most 50 items"),
        ({"kind": "log"}, "'log'"),
        ({}, "kind"),
        ("standard", "Input should be"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_file_and_the_feature(tmp_path, wrong, says):
    (tmp_path / FEATURE_SCALING).write_text(json.dumps({"features": {"fine": {"kind": "none"}, "age": wrong}}))
    with pytest.raises(CorruptArtifactError, match=rf"{FEATURE_SCALING} does not hold") as caught:
        read_feature_scaling(tmp_path)
    (line,) = caught.value.details
    assert "features.age" in line
    assert says in line
    with pytest.raises(CorruptArtifactError, match="feature_scaling holds"):
        check_feature_scaling({"age": wrong}, where="feature_scaling")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"features": [', b'{"format": 2, "features": {}}', b"\xff"])
def test_a_file_that_holds_something_else(tmp_path, content):
    (tmp_path / FEATURE_SCALING).write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=FEATURE_SCALING):
        read_feature_scaling(tmp_path)


def test_a_scaling_of_other_features():
    scaling = check_feature_scaling(EVERY_KIND, where="test")
    scaling.require_features(list(EVERY_KIND), texts=[], risk_tables=["paid"])
    with pytest.raises(CorruptArtifactError) as caught:
        scaling.require_features(["paid", "rate", "shop"], texts=["shop"], risk_tables=["rate"])
    assert [*caught.value.details] == [
        "'age' is not in tab_field_list",
        "'visits' is not in tab_field_list",
        "'rate' has a missing_indicator, which is for numbers, and a risk table",
        "'shop' is one_hot, but has a risk table or is a text field",
    ]


@pytest.mark.parametrize(
    ("keys", "lacking"),
    [
        ({}, []),
        ({"scaling": "none"}, []),
        ({"scaling": "standard"}, ["'new'"]),
        ({"scaling": {"new": "none"}}, []),
        ({"scaling": {"age": "none", "new": "robust"}}, ["'new'"]),
        ({"scaling": "none", "one_hot": ["new"]}, ["'new'"]),
        ({"scaling": "a key of another plugin", "one_hot": None}, []),
    ],
)
def test_a_feature_that_was_trained_scaled_is_in_the_file(keys, lacking):
    scaling = check_feature_scaling({"age": {"kind": "standard", "mean": 1, "std": 2}}, where="test")
    if not lacking:
        require_trained(scaling, keys, ["age", "new"])
        return
    with pytest.raises(CorruptArtifactError, match="lacks features that training scaled") as caught:
        require_trained(scaling, keys, ["age", "new"])
    assert [line.partition(" ")[0] for line in caught.value.details] == lacking


def test_a_file_that_is_gone_is_an_error_if_training_scaled():
    require_trained(None, {"scaling": "standard"}, [])
    with pytest.raises(CorruptArtifactError, match=f"{FEATURE_SCALING} is missing"):
        require_trained(None, {"scaling": "standard"}, ["age"])
