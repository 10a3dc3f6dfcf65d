from __future__ import annotations

import json
import socket

import machine
import pytest
import torch

ENCODER = {"hidden_size": 32, "intermediate_size": 64}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(machine, "TOKENS", {"cpu": (16,)})
    monkeypatch.setattr(machine, "SQUARE", {"cpu": 48})
    monkeypatch.setattr(machine, "SECONDS", 0.0)


def test_the_shapes_are_those_of_the_layers():
    assert machine.shapes("cpu", [ENCODER]) == [(16, 32, 32), (16, 32, 64), (16, 64, 32), (48, 48, 48)]


@pytest.mark.parametrize(
    ("precision", "name", "kernel"), machine._CPU, ids=lambda value: value if isinstance(value, str) else "kernel"
)
def test_a_kernel_is_a_matrix_product(precision, name, kernel):
    x, w = torch.randn(16, 32), torch.randn(8, 32)
    expected = x @ w.t()
    try:
        with torch.inference_mode():
            found = kernel(x, w)().float()
    except (RuntimeError, AttributeError) as error:
        pytest.skip(f"not on this processor: {error}")
    if precision == "int8":  # numbers of another scale, and what was rounded and cut
        found, expected = (t.flatten() - t.mean() for t in (found, expected))
        assert torch.cosine_similarity(found, expected, dim=0) > 0.99
    else:
        torch.testing.assert_close(found, expected, rtol=0.05, atol=1e-4 if precision == "fp32" else 0.2)


def test_every_product_is_measured_or_says_why_not():
    rates = machine.peaks("cpu", [ENCODER])
    assert len(rates) == 4 * len(machine._CPU)
    for rate in rates:
        assert ("gflops" in rate) != ("failed" in rate)
    assert all(rate["gflops"] > 0 for rate in rates if (rate["precision"], rate["kernel"]) == ("fp32", "torch.mm"))


def test_the_best_is_the_fastest():
    rates = [
        {"precision": "fp32", "kernel": "a", "gflops": 2.0},
        {"precision": "fp32", "kernel": "b", "gflops": 3.0},
        {"precision": "fp32", "kernel": "c", "failed": "no such kernel"},
        {"precision": "int8", "kernel": "c", "failed": "no such kernel"},
    ]
    assert machine.best(rates) == {"fp32": rates[1], "int8": rates[3]}


def test_a_machine_is_described_without_its_name():
    described = machine.describe()
    assert described["versions"]["torch"] == torch.__version__
    assert described["memory_gb"] > 0
    assert socket.gethostname() not in json.dumps(described)
