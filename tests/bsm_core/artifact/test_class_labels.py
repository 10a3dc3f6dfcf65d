from __future__ import annotations

import pytest

from bsm_core import ArtifactConfig
from bsm_core.artifact.config import ClassLabels
from bsm_core.errors import ConfigError


def labels(**values):
    return ClassLabels.of_config(ArtifactConfig.from_mapping({"model_class": "bert", **values}, where="config"))


def test_the_keys_that_a_training_job_writes():
    found = labels(label_name="Rating", num_classes=3, multiclass_categories=[1, 2.5, "high"])
    assert found == ClassLabels("Rating", ["1", "2.5", "high"])


def test_a_config_without_these_keys():
    assert labels() == ClassLabels()


@pytest.mark.parametrize("id2label", [{"0": "no", "1": "yes"}, {1: "yes", 0: "no"}])
def test_names_of_hugging_face(id2label):
    assert labels(id2label=id2label).names == ["no", "yes"]
    assert labels(id2label=id2label, class_names=["bad", "good"]).names == ["bad", "good"]


@pytest.mark.parametrize(
    "values",
    [
        {"id2label": {"0": "no"}},
        {"id2label": {"0": "no", "1": None}},
        {"id2label": {"1": "a", "2": "b"}},
        {"id2label": ["no", "yes"]},
        {"multiclass_categories": [1, 2, 3], "label_name": 7},
    ],
)
def test_values_of_other_programs_that_do_not_fit_are_no_error(values):
    assert labels(**values) == ClassLabels()


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_class_names_are_one_different_name_for_each_class(names):
    with pytest.raises(ConfigError, match="different, for 2 classes"):
        labels(class_names=names)
