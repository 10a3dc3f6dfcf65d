from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from bsm_core import Batch, ModelBase
from bsm_core.training.optional.calibration import HIGHEST, LOWEST, calibrate, fit_temperature, logits_of


def drawn(rows, classes, sureness, seed):
    """Logits that are ``sureness`` times those from which the labels are drawn."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=each) for each in chances])
    return logits * sureness, labels


def loss(logits, labels, temperature):
    scaled = torch.from_numpy(logits) / temperature
    return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)))


@given(st.integers(2, 5), st.floats(0.3, 5), st.integers(0, 50))
def test_the_temperature_has_the_lowest_log_loss(classes, sureness, seed):
    logits, labels = drawn(200, classes, sureness, seed)
    found = fit_temperature(logits, labels)
    best = minimize_scalar(lambda t: loss(logits, labels, t), bounds=(LOWEST, HIGHEST), method="bounded")
    assert loss(logits, labels, found) <= best.fun + 1e-9


@pytest.mark.parametrize("sureness", [0.25, 3.0])
def test_the_temperature_is_how_much_too_sure_the_logits_are(sureness):
    logits, labels = drawn(4000, 3, sureness, 0)
    assert fit_temperature(logits, labels) == pytest.approx(sureness, rel=0.1)


def test_large_logits_do_not_overflow():
    logits, labels = drawn(500, 2, 1.0, 1)
    assert fit_temperature(logits * 10 + 1e6, labels) == pytest.approx(10, rel=0.2)


def test_rows_that_are_all_right_or_that_say_nothing_have_no_temperature(caplog):
    labels = np.array([0, 1] * 60)
    right = np.stack([1 - labels, labels], axis=1) * 4.0
    wrong = -right
    assert fit_temperature(right, labels) is None
    assert fit_temperature(wrong, labels) is None
    found = calibrate(right, labels)
    assert found["temperature"] == 1.0
    assert found["before"] == found["after"]
    assert "no temperature fits the 120 validation rows" in caplog.text


def test_few_rows_are_a_warning(caplog):
    logits, labels = drawn(60, 2, 2.0, 3)
    calibrate(logits, labels)
    assert "60 validation rows are few; with 100 or more" in caplog.text


def test_the_error_before_and_after_is_said(caplog):
    logits, labels = drawn(3000, 2, 4.0, 0)
    with caplog.at_level(logging.INFO, "bsm"):
        found = calibrate(logits, labels)
    assert found["after"]["ece"] < found["before"]["ece"] / 2
    assert found["count"] == 3000
    assert f"ECE {found['before']['ece']:.4f} before, {found['after']['ece']:.4f} after" in caplog.text


class Plain(ModelBase):
    """Logits that are the features, with dropout in training."""

    def forward(self, batch):
        return torch.nn.functional.dropout(batch.features, 0.5, self.training)


def test_logits_are_those_of_evaluation_in_the_order_of_the_rows():
    batch = Batch(2100, features=torch.randn(2100, 2))
    found = logits_of(Plain.from_config({}).train(), batch)
    assert found.dtype == np.float64
    assert np.array_equal(found, batch.features.double().numpy())
