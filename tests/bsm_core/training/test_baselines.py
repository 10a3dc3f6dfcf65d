from __future__ import annotations

import importlib.util
import logging

import numpy as np
import pytest
from support.training import CONFIG, labelled_rows

from bsm_core import train
from bsm_core.errors import ConfigError
from bsm_core.plugins.registry import Registry
from bsm_core.training.baselines import FEATURES, MAJORITY, TEXT, measure_baselines, notes_of, tell_baselines
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.rows.read_rows import divide, read_rows

ensemble = pytest.importorskip("sklearn.ensemble")
JOB = {**CONFIG, "baselines": True, "positive_class": 1}
LEARNED = {"log_loss": 0.1, "auroc": 0.99, "accuracy": 0.95}


@pytest.fixture
def baselines(toy_site):
    def make(rows=None, **changes):
        job = TrainingJob({**JOB, **changes}, Registry.discover())
        whole, given, order = read_rows(job, labelled_rows(200) if rows is None else rows, None)
        training, held_out = divide(job, whole, given, order)
        return measure_baselines(job, training, held_out)

    return make


@pytest.fixture
def said(caplog):
    def tell(best, found, monitor="log_loss"):
        with caplog.at_level(logging.INFO, "bsm"):
            tell_baselines(best, found, monitor)
        return [record.getMessage() for record in caplog.records]

    return tell


def test_simple_models_are_measured_on_the_validation_rows(baselines):
    found = baselines()
    assert list(found) == [MAJORITY, TEXT, FEATURES]
    assert all(metrics.keys() == {"log_loss", "auroc", "accuracy"} for metrics in found.values())
    assert found[MAJORITY]["auroc"] == 0.5
    assert found[TEXT]["auroc"] == found[FEATURES]["auroc"] == 1.0  # each tells the label of these rows
    assert found[TEXT]["log_loss"] < 0.1 < found[MAJORITY]["log_loss"]


def test_the_majority_class_gives_the_shares_of_the_training_rows(toy_site):
    job = TrainingJob({**JOB, "baselines": False}, Registry.discover())
    whole, given, order = read_rows(job, labelled_rows(200), None)
    rows, held_out = divide(job, whole, given, order)
    found = measure_baselines(job, rows, held_out)
    share = float(rows.labels.float().mean())
    right = np.where(held_out.labels.numpy() == 1, share, 1 - share)
    assert found == {
        MAJORITY: {
            "log_loss": pytest.approx(-np.log(right).mean(), abs=1e-5),
            "auroc": 0.5,
            "accuracy": pytest.approx(float(held_out.labels.float().mean())),
        }
    }


def test_the_same_rows_have_the_same_metrics_and_a_sample_stands_for_many(baselines, monkeypatch):
    assert baselines() == baselines()
    monkeypatch.setattr("bsm_core.training.baselines._ROWS", 60)
    sampled = baselines()
    assert sampled[MAJORITY] == baselines()[MAJORITY]
    assert sampled[TEXT]["auroc"] > 0.9


def test_missing_cells_unseen_categories_and_classes_without_rows_are_no_fault(baselines):
    rows = labelled_rows(120)
    rows["channel"] = [f"c{i}" if i % 2 else None for i in range(120)]
    rows["amount"] = ["" if i % 2 else "1" for i in range(120)]
    found = baselines(rows, num_classes=3, multiclass_categories=["0", "1", "2"], positive_class=None)
    assert found[MAJORITY]["auroc"] == 0.5  # the mean of the classes that have rows
    assert found[FEATURES]["log_loss"] > 0


def test_a_category_with_an_input_for_each_value_is_one_for_boosting_and_columns_without_values_are_left_out(baselines):
    rows = labelled_rows(200).assign(amount=None)
    options = {"tab_field_list": ["amount", "channel"], "cat_field_list": [], "hidden_common_dim": 8}
    rows["channel"] = np.where(rows["label"] == "1", "web", "shop")
    assert baselines(rows, **options, one_hot=["channel"], model_class="tabular")[FEATURES]["auroc"] == 1.0


def test_features_without_two_values_have_no_baseline(baselines, caplog):
    with caplog.at_level(logging.INFO, "bsm"):
        found = baselines(labelled_rows(80).assign(amount="3", channel=None))
    assert list(found) == [MAJORITY, TEXT]
    assert "no baseline gradient boosting on the features: no feature has two different values" in caplog.text


def test_many_classes_have_fewer_rows_words_and_trees(baselines, monkeypatch, caplog):
    built = []
    fit = ensemble.HistGradientBoostingClassifier.fit
    monkeypatch.setattr(
        ensemble.HistGradientBoostingClassifier, "fit", lambda own, *rows: built.append(own) or fit(own, *rows)
    )
    monkeypatch.setattr("bsm_core.training.baselines._ROWS", 800)
    monkeypatch.setattr("bsm_core.training.baselines._LABELED", 2_400)
    monkeypatch.setattr("bsm_core.training.baselines._TREES", 60)
    rows = labelled_rows(240).assign(label=[str(i % 20) for i in range(240)])
    with caplog.at_level(logging.INFO, "bsm"):
        found = baselines(rows, num_classes=20, is_binary=False, positive_class=None)
    assert list(found) == [MAJORITY, TEXT, FEATURES]
    assert "measuring the baselines, trained on 120 rows" in caplog.text
    assert [model.max_iter for model in built] == [3]


def test_a_baseline_for_which_the_memory_does_not_suffice_is_left_out(baselines, monkeypatch, caplog):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("bsm_core.training.baselines._joined", fail)
    with caplog.at_level(logging.INFO, "bsm"):
        assert list(baselines()) == [MAJORITY, FEATURES]
    assert "on the text: the memory does not suffice" in caplog.text


def test_texts_without_a_word_have_no_baseline(baselines, caplog):
    with caplog.at_level(logging.INFO, "bsm"):
        found = baselines(labelled_rows(80).assign(chat="|"))
    assert list(found) == [MAJORITY, FEATURES]
    assert "no baseline TF-IDF and logistic regression on the text: empty vocabulary" in caplog.text


def test_without_scikit_learn_the_extra_is_named(baselines, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "bsm"):
        assert list(baselines(baselines=None)) == [MAJORITY]
    assert "pip install 'bsm-core[baselines]'" in caplog.text
    with pytest.raises(ConfigError, match="baselines: scikit-learn is not installed"):
        baselines(baselines=True)


@pytest.mark.parametrize(
    ("best", "monitor", "warning"),
    [
        (LEARNED, "log_loss", None),
        ({**LEARNED, "log_loss": 0.7}, "log_loss", "the model is no better than the majority class (log loss 0.6000)"),
        ({**LEARNED, "log_loss": 0.7}, "auroc", "the probabilities of the model are no better than the shares of the"),
        ({**LEARNED, "log_loss": 0.6}, "f1", "the model is no better than the majority class (log loss 0.6000)"),
        ({**LEARNED, "log_loss": 0.3}, "log_loss", "gradient boosting on the features is better than the model: log"),
        ({**LEARNED, "auroc": 0.8}, "auroc", "gradient boosting on the features is better than the model: AUROC 0.9"),
        ({**LEARNED, "log_loss": 0.204}, "log_loss", None),
        ({"train_loss": 0.1}, "log_loss", None),
        ({**LEARNED, "log_loss": 0.59999951}, "log_loss", "the model is no better than the majority class"),
        (
            {**LEARNED, "accuracy": 0.7000004, "log_loss": 0.2},
            "accuracy",
            "gradient boosting on the features is better",
        ),
        ({**LEARNED, "accuracy": 0.7, "log_loss": 0.61}, "accuracy", "the model is no better than the majority class"),
        ({**LEARNED, "accuracy": 0.6, "log_loss": 0.1}, "accuracy", "the model is no better than the majority class"),
    ],
    ids=[
        "better",
        "worse",
        "another metric",
        "equal",
        "than the best",
        "in AUROC",
        "a little",
        "not measured",
        *("rounded", "tie, learned", "tie", "worse in accuracy"),
    ],
)
def test_a_model_that_is_no_better_than_a_baseline_is_warned_of(said, best, monitor, warning):
    found = {
        MAJORITY: {"log_loss": 0.6, "auroc": 0.5, "accuracy": 0.7},
        FEATURES: {"log_loss": 0.2, "auroc": 0.9, "accuracy": 0.9},
    }
    lines = said(best, found, monitor)
    assert lines[1] == "on the validation rows, the majority class: log loss 0.6000, AUROC 0.5000, accuracy 0.7000"
    assert len(lines) == 3 + (warning is not None)
    assert warning is None or lines[3].startswith(warning)


def test_a_job_tells_and_keeps_them(toy_site, tmp_path, caplog):
    metrics = train({**JOB, "max_epochs": 1, "lr": 1e-9}, labelled_rows(), tmp_path / "model").metrics
    assert list(metrics["baselines"]) == [MAJORITY, TEXT, FEATURES]
    assert "the model is no better than" in caplog.text
    page = (tmp_path / "model-report.html").read_text()
    assert "For comparison, gradient boosting on the features on these rows: log loss" in page
    assert len(notes_of(metrics["baselines"])) == 3
