"""Every metric agrees with scikit-learn and torchmetrics, also where scores are tied; its interval with a bootstrap."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import calibration_error

from bsm_core.metrics.bootstrap import Draws, estimate
from bsm_core.metrics.measure import measure
from bsm_core.metrics.questions import Ranking

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@st.composite
def scored(draw, classes):
    """Probabilities ``[rows, classes]`` with many ties, some of them 0 or 1, and labels in which each class occurs."""
    rows = draw(st.integers(classes, 40))
    parts = st.lists(st.integers(0, 4), min_size=classes, max_size=classes).filter(any)
    weights = np.array(draw(st.lists(parts, min_size=rows, max_size=rows)), float)
    weights[:, 0] += 0.01  # no probability is at the edge of a bin of the ECE, but where all others are 0
    others = draw(st.lists(st.integers(0, classes - 1), min_size=rows - classes, max_size=rows - classes))
    return weights / weights.sum(axis=1, keepdims=True), np.array([*range(classes), *others])


def values(estimates):
    return {name: each.value for name, each in estimates.items()}


def ours(probabilities, labels, resamples=0):
    return measure(probabilities, labels, [f"c{i}" for i in range(probabilities.shape[1])], resamples, seed=0)


def one_class_against_the_others(probabilities, labels, predicted, of_class=1):
    """Metrics of scikit-learn for the question whether a row is of a class."""
    is_class, is_predicted = labels == of_class, predicted == of_class
    p = probabilities[:, of_class]
    return {
        "auroc": sklearn_metrics.roc_auc_score(is_class, p),
        "average_precision": sklearn_metrics.average_precision_score(is_class, p),
        "log_loss": sklearn_metrics.log_loss(is_class, np.stack([1 - p, p], axis=1)),
        "brier": sklearn_metrics.brier_score_loss(is_class, p),
        "f1": sklearn_metrics.f1_score(is_class, is_predicted),
        "precision": sklearn_metrics.precision_score(is_class, is_predicted, zero_division=0),
        "recall": sklearn_metrics.recall_score(is_class, is_predicted),
        "accuracy": sklearn_metrics.accuracy_score(is_class, is_predicted),
    }


def at_an_edge(confidences):
    """Whether float32, in which torchmetrics computes, may put a probability into another bin of the ECE."""
    edges = confidences * 15
    return bool((np.abs(edges - edges.round()) < 1e-5).any())


def agree(found, expected):
    for name, value in expected.items():
        if math.isnan(value):
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(value, abs=1e-6), name


@settings(max_examples=40)
@given(scored(classes=2))
def test_two_classes(sample):
    probabilities, labels = sample
    found = values(ours(probabilities, labels).metrics)
    agree(found, one_class_against_the_others(probabilities, labels, probabilities.argmax(axis=1)))
    if not at_an_edge(probabilities[:, 1]):
        ece = calibration_error(torch.tensor(probabilities[:, 1]), torch.tensor(labels), task="binary")
        assert found["ece"] == pytest.approx(float(ece), abs=1e-6)


@settings(max_examples=15)
@given(st.integers(3, 4).flatmap(lambda classes: scored(classes=classes)))
def test_several_classes(sample):
    probabilities, labels = sample
    found, count = ours(probabilities, labels), probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        all_rows = {
            "log_loss": sklearn_metrics.log_loss(labels, probabilities),
            "brier": sklearn_metrics.brier_score_loss(labels, probabilities),
            "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        }
        if not at_an_edge(probabilities.max(axis=1)):
            scores = torch.tensor(probabilities), torch.tensor(labels)
            all_rows["ece"] = float(calibration_error(*scores, task="multiclass", num_classes=count))
        agree(values(found.metrics), all_rows)
        for each in found.classes:
            expected = one_class_against_the_others(probabilities, labels, predicted, each.index)
            agree(values(each.metrics), {**expected, "accuracy": expected["recall"]})
        one_hot = np.eye(count)[labels]
        for average, means in (("macro", found.macro), ("weighted", found.weighted)):
            expected = {
                "auroc": sklearn_metrics.roc_auc_score(one_hot, probabilities, average=average),
                "average_precision": sklearn_metrics.average_precision_score(one_hot, probabilities, average=average),
                "f1": sklearn_metrics.f1_score(labels, predicted, average=average),
                "recall": sklearn_metrics.recall_score(labels, predicted, average=average),
                "precision": sklearn_metrics.precision_score(labels, predicted, average=average, zero_division=0),
            }
            agree(values(means), expected)
        assert values(found.macro)["accuracy"] == pytest.approx(
            sklearn_metrics.balanced_accuracy_score(labels, predicted)
        )


def test_classes_without_rows_or_predictions():
    """A class that is never predicted, one without rows, and one that is neither."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.eye(5)[[0, 3, 1, 1, 0, 1]] * 0.6 + 0.08
    found, predicted = ours(probabilities, labels), probabilities.argmax(axis=1)
    for average, means in (("macro", found.macro), ("weighted", found.weighted)):
        for name in ("precision", "recall", "f1"):
            score = getattr(sklearn_metrics, f"{name}_score")
            assert means[name].value == pytest.approx(score(labels, predicted, average=average, zero_division=0)), name
    assert [each.metrics["precision"].value for each in found.classes] == [0.5, pytest.approx(2 / 3), 0, 0, None]
    assert {found.classes[3].metrics[name].note for name in ("recall", "accuracy")} == {"no row is of class 'c3'"}
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = sklearn_metrics.balanced_accuracy_score(labels, predicted)
    assert found.macro["accuracy"].value == pytest.approx(balanced)
    assert found.macro["f1"].note == "mean of 4 of 5 classes: it is not defined for the others"


def test_rare_classes_are_ranked_exactly_in_resamples_too():
    """Scores of other classes are counted together between those of the class, which changes no metric."""
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(60, size=500) / 60, rng.random(500) < 0.02
    ranking, rows = Ranking(scores, positive), Draws(500, 20, seed=1)
    assert len(ranking.positives) < 25
    drawn = ranking.resampled(rows)
    for number, times in enumerate(rows._times.astype(int)):
        chosen = np.repeat(np.arange(500), times)
        if positive[chosen].any():
            agree(
                {name: found[number] for name, found in drawn.items()},
                {
                    "auroc": sklearn_metrics.roc_auc_score(positive[chosen], scores[chosen]),
                    "average_precision": sklearn_metrics.average_precision_score(positive[chosen], scores[chosen]),
                },
            )


def test_many_scores_are_ranked_exactly():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=50_000)
    p = np.clip(rng.normal(0.4 + 0.1 * labels, 0.2), 0, 1).astype(np.float32).astype(float)
    found = values(ours(np.stack([1 - p, p], axis=1), labels, resamples=2).metrics)
    agree(found, {"auroc": sklearn_metrics.roc_auc_score(labels, p)})
    agree(found, {"average_precision": sklearn_metrics.average_precision_score(labels, p)})


def two_classes(rows, positive=0.3, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < positive).astype(int)
    p = 1 / (1 + np.exp(-rng.normal(2 * labels - 1, 1.5)))
    return np.stack([1 - p, p], axis=1), labels


@pytest.mark.parametrize(("rows", "positive"), [(300, 0.3), (5000, 0.3), (5000, 0.02)])
def test_intervals_are_those_of_the_ordinary_bootstrap(rows, positive):
    """Groups of rows and of scores, which make a million rows fast, change the width of no interval by much."""
    probabilities, labels = two_classes(rows, positive)
    found, rng = ours(probabilities, labels, resamples=2000).metrics, np.random.default_rng(1)
    drawn = []
    for _ in range(100):
        row = rng.integers(rows, size=rows)
        drawn.append(values(ours(probabilities[row], labels[row]).metrics))
    for name, each in found.items():
        deviation = np.std([sample[name] for sample in drawn])
        assert each.high - each.low == pytest.approx(2 * 1.96 * deviation, rel=0.25), name
        assert each.low <= each.value <= each.high


def test_intervals_of_several_classes_and_their_means():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, p=[0.6, 0.3, 0.1], size=2500)
    logits = rng.normal(size=(2500, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found, drawn = ours(probabilities, labels, resamples=1000), []
    for _ in range(100):
        row = rng.integers(2500, size=2500)
        drawn.append(ours(probabilities[row], labels[row]))
    for of in (
        lambda m: m.metrics["log_loss"],
        lambda m: m.metrics["brier"],
        lambda m: m.macro["auroc"],
        lambda m: m.weighted["average_precision"],
        lambda m: m.macro["f1"],
        lambda m: m.classes[2].metrics["recall"],
    ):
        deviation = np.std([of(sample).value for sample in drawn])
        assert of(found).high - of(found).low == pytest.approx(2 * 1.96 * deviation, rel=0.25)


def test_intervals_contain_the_truth_about_as_often_as_they_say():
    truth = ours(*two_classes(100_000)).metrics
    found = [ours(*two_classes(200, seed=seed), resamples=200).metrics for seed in range(1, 61)]
    for name in ("auroc", "average_precision", "log_loss", "brier", "f1", "accuracy"):
        covered = sum(each[name].low <= truth[name].value <= each[name].high for each in found)
        assert covered >= 51, name


def test_the_same_rows_have_the_same_intervals():
    sample = two_classes(3000)
    assert ours(*sample, resamples=50) == ours(*sample, resamples=50)


def test_without_resamples_there_are_no_intervals():
    found = ours(*two_classes(100)).metrics
    assert all(each.low is None and each.value is not None for each in found.values())


@pytest.mark.parametrize(
    ("label", "undefined", "note"),
    [
        (0, {"auroc", "average_precision"}, "no row is of class 'c1'"),
        (1, {"auroc"}, "all rows are of class 'c1'"),
    ],
)
def test_a_metric_that_is_not_defined_says_why(label, undefined, note):
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4]])
    found = ours(probabilities, np.array([label, label]), resamples=20).metrics
    assert {name for name, each in found.items() if each.value is None} == undefined
    assert {found[name].note for name in undefined} == {note}
    assert found["log_loss"].value == pytest.approx(-np.log(probabilities[:, label]).mean())


def test_precision_where_nothing_is_predicted():
    found = ours(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([0, 1])).metrics
    assert (found["precision"].value, found["precision"].note) == (0, "no row is predicted as class 'c1'")
    assert (found["f1"].value, found["recall"].value) == (0, 0)
    found = ours(np.array([[0.9, 0.1]]), np.array([0])).metrics
    assert (found["f1"].value, found["f1"].note) == (None, "no row is of class 'c1' or predicted as it")


def test_a_class_without_rows_is_in_no_mean():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    found = ours(probabilities, np.array([0, 1, 0]), resamples=50)
    assert found.classes[2].metrics["auroc"].note == "no row is of class 'c2'"
    macro = found.macro["auroc"]
    assert macro.value == np.mean([found.classes[i].metrics["auroc"].value for i in (0, 1)])
    assert macro.note == "mean of 2 of 3 classes: it is not defined for the others"


def test_a_metric_that_most_resamples_do_not_define_has_no_interval():
    found = estimate(0.5, np.array([np.nan, np.nan, 0.5]), "")
    assert (found.value, found.low) == (0.5, None)
    assert found.note == "no interval: the metric is not defined in more than half of the resamples"


def test_an_interval_is_within_the_range_of_the_metric():
    found = estimate(0.9, np.linspace(0.4, 1, 101), "")
    assert (found.low, found.high) == (pytest.approx(0.615), 1)


def test_probabilities_of_0_and_1_have_a_finite_log_loss():
    found = ours(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1])).metrics
    assert found["log_loss"].value == pytest.approx(sklearn_metrics.log_loss([0, 1], [[0.0, 1.0], [1.0, 0.0]]))


def test_a_name_that_begins_with_class_does_not_say_it_twice():
    found = measure(np.array([[0.2, 0.8]]), np.array([1]), ["class 0", "class 1"], 0, 0)
    assert found.metrics["auroc"].note == "all rows are of class 1"
