"""Metrics from counts in bins, against torchmetrics on the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import accuracy, auroc, average_precision, calibration_error, f1_score

from bsm_core.report.measures import Measured


def scored(rows: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of rows, some of them close to 0 and 1, and labels that fit them somewhat."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in 0.6 * p + 0.4 / classes])
    return p, labels


def in_parts(p: np.ndarray, labels: np.ndarray) -> Measured:
    found = Measured(p.shape[1])
    for part in np.array_split(np.arange(len(labels)), 7):
        found.add(p[part], labels[part])
    return found


def test_two_classes_against_torchmetrics():
    p, labels = scored(5_000, 2)
    found, scores, truth = in_parts(p, labels), torch.tensor(p[:, 1]), torch.tensor(labels)
    curves = found.curves(1)
    assert curves.auroc == pytest.approx(float(auroc(scores, truth, "binary")), abs=2e-5)
    assert curves.average_precision == pytest.approx(float(average_precision(scores, truth, "binary")), abs=2e-5)
    assert found.accuracy == pytest.approx(float(accuracy(scores, truth, "binary")), abs=1e-6)
    assert found.calibration_error == pytest.approx(float(calibration_error(scores, truth, "binary")), abs=1e-6)
    assert found.log_loss == pytest.approx(-np.log(p[np.arange(len(labels)), labels]).mean(), rel=1e-9)
    assert found.brier == pytest.approx(((p[:, 1] - labels) ** 2).mean(), rel=1e-9)
    for threshold in (0.1, 0.5, 0.9):
        point, positive = found.at(threshold), p[:, 1] >= threshold
        assert point.true_positives == (positive & (labels == 1)).sum()
        assert point.true_negatives == (~positive & (labels == 0)).sum()
        assert sum(point[1:]) == 5_000
        assert point.f1 == pytest.approx(float(f1_score((scores >= threshold).int(), truth, "binary")), abs=1e-6)
    best = found.best_threshold()
    assert best.f1 == max(found.at(step / 100).f1 for step in range(1, 100))
    assert found.confusion.tolist() == [[((p.argmax(1) == j) & (labels == i)).sum() for j in (0, 1)] for i in (0, 1)]
    assert curves.roc[0].tolist() == [0, 0]
    assert curves.roc[-1].tolist() == [1, 1]
    assert len(curves.roc) <= 201
    assert (np.diff(curves.roc, axis=0) >= 0).all()


def test_several_classes_against_torchmetrics():
    p, labels = scored(3_000, 4, seed=3)
    found, scores, truth = in_parts(p, labels), torch.tensor(p), torch.tensor(labels)
    areas = auroc(scores, truth, "multiclass", num_classes=4, average="none")
    precisions = average_precision(scores, truth, "multiclass", num_classes=4, average="none")
    for index in found.measured_classes:
        curves = found.curves(index)
        assert curves.auroc == pytest.approx(float(areas[index]), abs=2e-5)
        assert curves.average_precision == pytest.approx(float(precisions[index]), abs=2e-5)
        assert curves.positives == (labels == index).sum()
    error = calibration_error(scores, truth, "multiclass", num_classes=4)
    assert found.calibration_error == pytest.approx(float(error), abs=1e-6)
    assert found.brier == pytest.approx(((p - np.eye(4)[labels]) ** 2).sum(axis=1).mean(), rel=1e-9)
    sure = p.max(axis=1) >= 0.7
    assert found.at(0.7).precision == pytest.approx((p.argmax(1) == labels)[sure].mean())


def test_rows_without_a_label_or_a_score_do_not_count():
    found = Measured(2)
    found.add(np.array([[0.2, 0.8], [np.nan, np.nan], [0.6, 0.4]]), np.array([1, 0, -1]))
    assert (found.rows, found.unscored, found.accuracy) == (1, 1, 1.0)
    assert np.isnan(found.curves(1).auroc)  # there are no negatives
    assert np.isnan(Measured(2).accuracy)


def test_certain_and_equal_probabilities():
    found = Measured(2)
    found.add(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([1, 0, 0, 1]))
    assert found.curves(1).auroc == 1.0
    assert found.log_loss == pytest.approx(0.0, abs=1e-12)
    assert found.at(1.0).true_positives == 2
    constant = Measured(2)
    constant.add(np.full((10, 2), 0.5), np.arange(10) % 2)
    assert constant.curves(1).auroc == 0.5
