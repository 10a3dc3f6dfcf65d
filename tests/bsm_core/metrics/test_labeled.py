"""Curves, confusion and thresholds of labeled rows, against torchmetrics and against the rows themselves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torchmetrics.functional import f1_score, precision_recall_curve, roc
from torchmetrics.utilities.compute import auc

from bsm_core.metrics.labeled import Labeled


def scored(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of rows, some of them close to 0 and 1, and labels that fit them somewhat."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in 0.6 * p + 0.4 / classes])
    return p, labels


def of(p, labels) -> Labeled:
    return Labeled.of(np.asarray(p, float), np.asarray(labels), [str(i) for i in range(np.shape(p)[1])], resamples=0)


def area(points: np.ndarray) -> float:
    return float(auc(torch.tensor(points[:, 0]), torch.tensor(points[:, 1])))


def test_two_classes_against_torchmetrics():
    p, labels = scored(5_000, 2)
    found, scores, truth = of(p, labels), torch.tensor(p[:, 1]), torch.tensor(labels)
    curves, metrics = found.curves[1], found.measured.metrics
    fall_out, recall, _ = roc(scores, truth, "binary")
    for x, y in curves.roc:  # each point that is kept is one of the exact curve
        assert min(abs(fall_out.numpy() - x) + abs(recall.numpy() - y)) < 1e-6
    precisions, recalls, _ = precision_recall_curve(scores, truth, "binary")
    for x, y in curves.precision_recall:
        assert min(abs(recalls.numpy() - x) + abs(precisions.numpy() - y)) < 1e-6
    assert curves.roc[[0, -1]].tolist() == [[0, 0], [1, 1]]
    assert (np.diff(curves.roc, axis=0) >= 0).all()
    assert len(curves.roc) <= 201
    assert area(curves.roc) == pytest.approx(metrics["auroc"].value, abs=2e-3)
    for threshold in (0.1, 0.5, 0.9):
        point, positive = found.at(threshold), p[:, 1] >= threshold
        assert point.true_positives == (positive & (labels == 1)).sum()
        assert point.true_negatives == (~positive & (labels == 0)).sum()
        assert sum(point[1:]) == 5_000
        assert point.f1 == pytest.approx(float(f1_score((scores >= threshold).int(), truth, "binary")), abs=1e-6)
    best = found.best_threshold()
    assert best.f1 == max(found.at(step / 100).f1 for step in range(1, 100))
    assert found.confusion.tolist() == [[((p.argmax(1) == j) & (labels == i)).sum() for j in (0, 1)] for i in (0, 1)]


def test_the_calibration_is_that_of_the_expected_calibration_error():
    p, labels = scored(4_000, 2)
    found = of(p, labels)
    points = found.curves[1].calibration
    error = sum(rows * abs(score - share) for score, share, rows in points) / 4_000
    assert error == pytest.approx(found.measured.metrics["ece"].value, abs=1e-12)
    assert sum(rows for *_, rows in points) == 4_000


@pytest.mark.parametrize("classes", [4, 40])
def test_the_pairs_that_are_confused_most(classes):
    p, labels = scored(3_000, classes, seed=3)
    found, predicted = of(p, labels), p.argmax(axis=1)
    wrong = Counter((a, b) for a, b in zip(labels.tolist(), predicted.tolist(), strict=True) if a != b)
    assert len(found.confused) == min(20, len(wrong))
    assert {(a, b): rows for a, b, rows in found.confused}.items() <= wrong.items()
    assert [rows for *_, rows in found.confused] == sorted(wrong.values(), reverse=True)[:20]


def test_the_classes_with_curves_are_those_with_the_most_rows():
    p, labels = scored(2_000, 30)
    labels = np.where(np.arange(2_000) < 1_500, 29, labels)
    found = of(p, labels)
    rows = np.bincount(labels, minlength=30)
    assert next(iter(found.curves)) == 29
    assert sorted(rows[[*found.curves]]) == sorted(rows)[-20:]


def test_several_classes():
    p, labels = scored(3_000, 4, seed=3)
    found = of(p, labels)
    assert sorted(found.curves) == [0, 1, 2, 3]
    for index, curves in found.curves.items():
        value = found.measured.classes[index].metrics["auroc"].value
        assert area(curves.roc) == pytest.approx(value, abs=2e-3)
    error = sum(rows * abs(score - share) for score, share, rows in found.confidence) / 3_000
    assert error == pytest.approx(found.measured.metrics["ece"].value, abs=1e-12)
    sure = p.max(axis=1) >= 0.7
    assert found.at(0.7).precision == pytest.approx((p.argmax(1) == labels)[sure].mean())
    assert found.confusion.sum() == 3_000


def test_many_classes_have_twenty_curves_and_no_confusion():
    p, labels = scored(500, 120)
    found = of(p, labels)
    assert len(found.curves) == 20
    assert found.confusion.shape == (0, 0)


def test_rows_of_one_class_alone():
    found = of([[0.2, 0.8], [0.6, 0.4]], [1, 1])
    assert found.measured.metrics["auroc"].value is None
    assert found.curves[1].roc.tolist() == [[0, 0], [0, 0.5], [0, 1]]


def test_certain_and_equal_probabilities():
    found = of([[0, 1], [1, 0], [1, 0], [0, 1]], [1, 0, 0, 1])
    assert found.at(1.0).true_positives == 2
    assert found.curves[1].calibration == [(0, 0, 2), (1, 1, 2)]
    assert of(np.full((10, 2), 0.5), np.arange(10) % 2).curves[1].roc.tolist() == [[0, 0], [1, 1]]
