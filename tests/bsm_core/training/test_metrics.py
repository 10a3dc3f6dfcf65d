from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.evaluation import evaluate
from bsm_core.metrics.names import METRICS
from bsm_core.training.metrics import History, as_text, measure, mode_of


def scores(probabilities, labels, at_once=100):
    history, logged = History(seed=0), {}
    history.on_train_epoch_start(SimpleNamespace(current_epoch=0), None)
    probabilities, labels = torch.tensor(probabilities, dtype=torch.float64), torch.tensor(labels)
    for start in range(0, len(labels), at_once):
        rows = slice(start, start + at_once)
        history.on_validation_batch_end(None, None, probabilities[rows], SimpleNamespace(labels=labels[rows]), 0)
    history.on_validation_epoch_end(None, SimpleNamespace(log_dict=logged.update))
    assert str(logged) == str(measure(probabilities, labels))  # as text, because NaN is not equal to NaN
    return logged


def binary(ones):
    return [[1 - p, p] for p in ones]


def f1(hits, false, missed):
    return 2 * hits / (2 * hits + false + missed) if hits + false + missed else 0.0


def test_two_classes_by_hand():
    got = scores(binary([0.9, 0.6, 0.4, 0.2, 0.7]), [1, 0, 1, 0, 1])
    assert got["auroc"] == pytest.approx(5 / 6)  # of the six pairs only (0.4, 0.6) is the wrong way round
    assert got["accuracy"] == pytest.approx(3 / 5)
    assert got["f1"] == pytest.approx(f1(2, 1, 1))
    assert got["log_loss"] == pytest.approx(-sum(map(math.log, [0.9, 0.4, 0.4, 0.8, 0.7])) / 5)
    assert tuple(got) == METRICS
    assert got["brier"] == pytest.approx(sum(p**2 for p in [0.1, 0.6, 0.6, 0.2, 0.3]) / 5)


def test_more_classes_by_hand():
    probabilities = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]]
    got = scores(probabilities, [0, 1, 2, 2])
    assert got["accuracy"] == 0.75
    assert got["f1"] == pytest.approx((f1(1, 0, 0) + f1(1, 1, 0) + f1(1, 0, 1)) / 3)
    assert got["auroc"] == 1.0  # each class stands above the others in its own column
    assert got["log_loss"] == pytest.approx(-sum(map(math.log, [0.7, 0.8, 0.3, 0.6])) / 4)


@given(st.lists(st.tuples(st.integers(0, 64), st.booleans()), min_size=2, max_size=30), st.integers(1, 7))
def test_auroc_is_the_share_of_pairs_in_the_right_order_whatever_the_batches(rows, at_once):
    ones, labels = [step / 64 for step, _ in rows], [int(label) for _, label in rows]
    got = scores(binary(ones), labels, at_once)
    pairs = [
        (a > b) + (a == b) / 2
        for a, x in zip(ones, labels, strict=True)
        for b, y in zip(ones, labels, strict=True)
        if x > y
    ]
    if pairs:
        assert got["auroc"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    else:
        assert math.isnan(got["auroc"])
    assert got["accuracy"] == pytest.approx(
        sum((p > 0.5) == label for p, label in zip(ones, labels, strict=True)) / len(rows)
    )


def test_without_rows_of_both_classes_the_ranking_is_undefined():
    assert math.isnan(scores([[0.5, 0.5]] * 2, [1, 1])["auroc"])
    assert math.isnan(scores([[0.5, 0.5]] * 2, [0, 0])["average_precision"])


@pytest.mark.parametrize(("classes", "labels"), [(2, [0, 1, 1, 0, 1]), (3, [0, 1, 2, 2, 0]), (3, [0, 1, 1, 1, 0])])
def test_training_and_evaluation_say_the_same_numbers(tmp_path, classes, labels):
    probabilities = torch.rand(5, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    frame = pd.DataFrame(probabilities.numpy(), columns=[f"prob_class_{i}" for i in range(classes)])
    frame.insert(0, "id", range(5))
    frame.to_csv(tmp_path / "inference_predictions.csv", index=False, float_format="%.17g")
    pd.DataFrame({"id": range(5), "y": labels}).to_csv(tmp_path / "labels.csv", index=False)
    found = evaluate(tmp_path, tmp_path / "labels.csv", label_column="y", resamples=0)
    values = {**(found.macro or {}), **found.metrics}
    said = {name: math.nan if values[name].value is None else values[name].value for name in METRICS}
    assert said == pytest.approx(measure(probabilities, torch.tensor(labels)), nan_ok=True, abs=1e-12)


def test_the_direction_of_each_metric():
    assert {name for name in METRICS if mode_of(name) == "min"} == {"log_loss", "brier", "ece"}


def test_a_sure_and_wrong_probability_is_a_finite_loss():
    assert scores([[1.0, 0.0]], [1])["log_loss"] == pytest.approx(-math.log(2.0**-52))


def test_a_line_for_people():
    assert as_text({"train_loss": 0.5, "auroc": 0.93125, "f1": math.nan, "log_loss": 1.0}) == (
        "train loss 0.5000, AUROC 0.9313, F1 nan, log loss 1.0000"
    )
