from __future__ import annotations

import pytest
from support.training import CONFIG

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.errors import ConfigError
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.features.feature_keys import FeatureKeys, FeatureKinds, feature_problems

ARTIFACT = ArtifactConfig.from_mapping(
    {
        "model_class": "m",
        "text_name": "chat",
        "tab_field_list": ["age", "shop", "chat", "city", "age"],
        "cat_field_list": ["shop", "chat", "elsewhere"],
    },
    where="test",
)


def problems(reads_count=True, **keys):
    return [str(each) for each in feature_problems(ARTIFACT, FeatureKeys(**keys), reads_count=reads_count)]


def test_what_replaces_the_cells_of_each_feature():
    assert FeatureKinds.of(ARTIFACT, FeatureKeys()) == FeatureKinds(["age", "chat", "city"], ["shop"], [])
    kinds = FeatureKinds.of(ARTIFACT, FeatureKeys(one_hot=["shop", "city", "chat"]))
    assert kinds == FeatureKinds(["age", "chat"], [], ["shop", "city"])  # a text field is no category
    assert kinds.categories == ["shop", "city"]


def test_features_are_standardized_unless_the_config_says_otherwise():
    assert FeatureKeys().kind("age") == "standard"
    assert FeatureKeys(scaling="none").kind("age") == "none"
    by_feature = FeatureKeys(scaling={"age": "quantile"})
    assert (by_feature.kind("age"), by_feature.kind("shop")) == ("quantile", "standard")


def test_which_features_have_an_indicator():
    assert not FeatureKeys().has_indicator("age")
    assert FeatureKeys(missing_indicators=True).has_indicator("age")
    some = FeatureKeys(missing_indicators=["age"])
    assert (some.has_indicator("age"), some.has_indicator("shop")) == (True, False)


def test_names_that_are_no_such_feature():
    assert problems(
        scaling={"age": "none", "shop": "robust"}, missing_indicators=["age", "city"], one_hot=["city"]
    ) == ["missing_indicators.city: not a number in tab_field_list"]
    assert problems(scaling={"ages": "none"}) == [
        "scaling.ages: not a number or a risk table in tab_field_list; did you mean 'age'?"
    ]
    assert problems(missing_indicators=["shop"], one_hot=["chat"]) == [
        "missing_indicators.shop: not a number in tab_field_list",
        "one_hot.chat: not a feature in tab_field_list that is no text field",
    ]
    assert problems(scaling={"shop": "none"}, one_hot=["shop"]) != []


def test_a_model_class_with_an_input_for_each_feature():
    assert problems(reads_count=False) == []
    found = problems(reads_count=False, missing_indicators=True, one_hot=["shop"])
    assert [line.partition(":")[0] for line in found] == ["missing_indicators", "one_hot"]
    assert "feature_count" in found[0]


@pytest.mark.usefixtures("toy_site")
def test_all_problems_are_told_together():
    wrong = {"scaling": "log", "missing_indicators": "amount", "one_hot": ["channels"], "max_epochs": 0}
    with pytest.raises(ConfigError) as caught:
        TrainingJob({**CONFIG, **wrong}, Registry.discover())
    keys = [line.partition(":")[0] for line in caught.value.details]
    assert {"scaling", "missing_indicators", "one_hot.channels", "max_epochs"} <= set(keys)
    assert "one of standard, robust, quantile, none" in str(caught.value)
    with pytest.raises(ConfigError, match="an object with one for each feature"):
        TrainingJob({**CONFIG, "scaling": {"amount": "log"}}, Registry.discover())


@pytest.mark.usefixtures("toy_site")
def test_the_scores_of_the_original_scripts_have_no_scaling():
    job = TrainingJob({**CONFIG, "compat": "original"}, Registry.discover())
    assert job.training.scaling == "none"
    for keys in ({"scaling": "robust"}, {"missing_indicators": True}, {"one_hot": ["channel"]}):
        with pytest.raises(ConfigError, match="compat=original contradicts"):
            TrainingJob({**CONFIG, "compat": "original", **keys}, Registry.discover())
