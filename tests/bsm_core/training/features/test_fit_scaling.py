from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from bsm_core.artifact.features.feature_scaling import OneHot, QuantileScaling, RobustScaling, StandardScaling, Unscaled
from bsm_core.errors import ConfigError
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.training.features.feature_keys import FeatureKeys, FeatureKinds
from bsm_core.training.features.fit_scaling import fit_scaling
from bsm_core.training.rows.data import Rows

RANDOM = np.random.default_rng(0)
COLUMNS = {
    "normal": RANDOM.normal(1.7e9, 1e5, 3_000),
    "skewed": RANDOM.lognormal(3, 2, 3_000),
    "counts": RANDOM.poisson(1, 3_000).astype(float),
    "constant": np.full(3_000, 0.1),
}


def fitted(columns, impute=None, tables=None, numbers=None, one_hot=(), dialect=None, **keys):
    length = len(next(iter(columns.values())))
    rows = Rows(dict(columns), torch.zeros(length, dtype=torch.int64), dialect=dialect or Dialect())
    tables = tables or {}
    numbers = [n for n in columns if n not in tables and n not in one_hot] if numbers is None else numbers
    kinds = FeatureKinds(numbers, [*tables], [*one_hot])
    return fit_scaling(rows, kinds, FeatureKeys(one_hot=[*one_hot], **keys), impute or {}, tables).features


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize(("kind", "oracle"), [("standard", StandardScaler()), ("robust", RobustScaler())])
def test_numbers_are_scaled_as_scikit_learn_does(name, kind, oracle):
    values = COLUMNS[name]
    scaling = fitted({name: values.tolist()}, scaling=kind)[name]
    expected = oracle.fit(values[:, None]).transform(values[:, None])[:, 0]
    assert scaling.scaled(values) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_quantiles_have_the_scores_of_scikit_learn():
    values = np.unique(COLUMNS["skewed"])
    scaling = fitted({"skewed": values.tolist()}, scaling="quantile")["skewed"]
    assert len(scaling.quantiles) == 1_000
    oracle = QuantileTransformer(n_quantiles=1_000, output_distribution="normal", subsample=None)
    oracle.fit(values[:, None])
    assert [*scaling.quantiles] == pytest.approx(oracle.quantiles_[:, 0].tolist())
    expected = oracle.transform(values[:, None])[:, 0]
    middle = np.abs(expected) < 2  # the ends of scikit-learn's normal distribution are at 5.2
    assert scaling.scaled(values)[middle] == pytest.approx(expected[middle], abs=0.02)
    assert np.abs(scaling.scaled(values)).max() < 3.3


def test_few_values_have_few_quantiles():
    assert fitted({"a": [3, 1, 2]}, scaling="quantile") == {"a": QuantileScaling(quantiles=(1.0, 2.0, 3.0))}


def test_values_are_those_of_the_runner_after_imputation_and_risk_tables():
    table = {"bins": {"web": 0.25, "nan": 0.75}, "default_bin": 0.5}
    columns = {"a": ["1,5", "", "x", "4,5"], "shop": ["web", None, "web", "web"]}
    found = fitted(columns, impute={"a": 3.0}, tables={"shop": table}, dialect=Dialect(decimal=","))
    assert (found["a"].mean, found["a"].std) == (3.0, pytest.approx(np.std([1.5, 3.0, 3.0, 4.5])))
    assert (found["shop"].mean, found["shop"].std) == (0.375, pytest.approx(np.std([0.25, 0.75, 0.25, 0.25])))


def test_a_feature_without_any_number_stays_what_it_is():
    assert fitted({"a": ["", ""]}) == {"a": StandardScaling(mean=-1.0, std=1.0)}


def test_each_feature_can_have_its_own_kind():
    found = fitted({"a": [1, 3], "b": [1, 3], "c": [1, 3]}, scaling={"a": "robust", "b": "none"})
    assert found == {"a": RobustScaling(median=2.0, iqr=1.0), "c": StandardScaling(mean=2.0, std=1.0)}


def test_features_with_missing_cells_get_an_indicator(caplog):
    columns = {"a": ["1", ""], "b": ["1", "2"], "c": ["x", "2"]}
    found = fitted(columns, missing_indicators=True, scaling="none")
    assert found == {name: Unscaled(missing_indicator=True) for name in ("a", "c")}
    assert not caplog.messages
    assert fitted(columns, missing_indicators=["a", "b"], scaling="none").keys() == {"a"}
    assert "missing_indicators names 'b'" in caplog.text


def test_categories_have_an_input_each_and_so_have_missing_cells():
    found = fitted({"c": ["web", None, "3.0", "3", "NaN", "", "app"]}, one_hot=["c"])
    assert found == {"c": OneHot(categories=("3.0", "app", "nan", "web"))}
    assert fitted({"c": ["b", "a"]}, one_hot=["c"]) == {"c": OneHot(categories=("a", "b"))}


def test_too_many_categories():
    assert len(fitted({"c": [str(i) for i in range(50)]}, one_hot=["c"])["c"].categories) == 50
    with pytest.raises(ConfigError, match="'c' has 51 categories in training, more than 50"):
        fitted({"c": [str(i) for i in range(51)]}, one_hot=["c"])


AGES, RISKS = [30.0, 40.0, 50.0], [0.75, 0.8, 0.85]


@pytest.mark.parametrize(
    ("columns", "keys", "warned"),
    [
        ({"age": AGES, "risk": RISKS}, {"scaling": "none"}, ["'age' about 40", "'risk' about 0.8"]),
        ({"age": AGES, "risk": RISKS}, {"scaling": {"age": "none"}}, ["'age' about 40", "the others about 1"]),
        ({"age": AGES, "c": ["a", "b", "b"]}, {"scaling": "none", "one_hot": ["c"]}, ["'age'", "the others about 1"]),
        ({"age": AGES, "constant": [0.1] * 3}, {"scaling": "none"}, []),
        ({"age": AGES, "year": [70.0, 80.0, 90.0]}, {"scaling": "none"}, []),
        ({"age": AGES, "risk": RISKS}, {"scaling": {"risk": "none"}}, []),
        ({"age": AGES, "risk": RISKS}, {}, []),
    ],
)
def test_features_of_very_different_sizes_are_named(caplog, columns, keys, warned):
    with caplog.at_level(logging.WARNING):
        fitted(columns, **keys)
    assert len(caplog.messages) == bool(warned)
    assert all(words in caplog.text for words in warned)


def test_of_many_such_features_some_are_named(caplog):
    fitted({f"f{i}": [0.0, 3.0**i] for i in range(30)}, scaling="none")
    assert "'f29'" in caplog.text
    assert "..." in caplog.text
    assert "'f15'" not in caplog.text


def test_robust_scaling_of_a_number_that_is_mostly_the_same_is_a_warning(caplog):
    assert fitted({"a": [0] * 9 + [100]}, scaling="robust") == {"a": RobustScaling(median=0.0, iqr=1.0)}
    assert "half of its values are 0" in caplog.text
    caplog.clear()
    fitted({"a": [0] * 9}, scaling="robust")
    assert not caplog.messages


def test_rounding_is_no_scale():
    assert np.std([0.1] * 1000) > 0
    assert fitted({"a": [0.1] * 1000})["a"].std == 1.0
