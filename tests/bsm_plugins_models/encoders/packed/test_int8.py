from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from bsm_plugins_models.encoders.packed.int8 import Quantized, range_of

on_int8 = pytest.mark.skipif(not Quantized.runs(), reason="this processor, or this PyTorch, adds up no int8 products")


def error(got, want):
    return ((got.float() - want).norm() / want.norm()).item()


def sample(rows=200, size=32):
    torch.manual_seed(0)
    return torch.randn(rows, size)


@on_int8
@torch.inference_mode()
def test_a_product_in_int8_is_near_that_in_float32():
    x, linears, residual = sample(), [nn.Linear(32, 16), nn.Linear(32, 8)], torch.randn(200, 24)
    want = torch.cat([linear(x) for linear in linears], dim=1)
    quantized = Quantized(linears, range_of(x), torch.float32)
    assert error(quantized(x), want) < 0.02
    assert error(quantized(x, add=residual), want + residual) < 0.02
    assert Quantized(linears, range_of(x), torch.bfloat16)(x).dtype == torch.bfloat16


@pytest.fixture
def untried():
    """The trial of the operators runs anew in the test, and again after it."""
    Quantized.runs.cache_clear()
    yield
    Quantized.runs.cache_clear()


def test_the_trial_runs_once_in_a_process(monkeypatch, untried):
    tried = []
    monkeypatch.setattr(Quantized, "__init__", lambda self, *arguments: tried.append(1))
    monkeypatch.setattr(Quantized, "__call__", lambda self, x: torch.tensor([64.0, -64.0]).expand(2, 2))
    assert Quantized.runs() is Quantized.runs()
    assert tried == [1]


@pytest.mark.usefixtures("untried")
def test_a_pytorch_without_the_operators_does_not_have_it(monkeypatch):
    class NoOperators:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "onednn", NoOperators())
    assert not Quantized.runs()


@pytest.mark.usefixtures("untried")
def test_a_processor_that_adds_up_wrong_does_not_have_it(monkeypatch):
    exact = Quantized.__call__
    monkeypatch.setattr(Quantized, "__call__", lambda self, x: exact(self, x) * 0.84)
    assert not Quantized.runs()


@torch.inference_mode()
def test_activations_are_rounded_to_the_nearest_integer():
    x = sample()
    quantized = Quantized([nn.Linear(32, 16)], range_of(x), torch.float32, smooth=False)
    wild = torch.cat([x, 10 * x, -10 * x])
    assert torch.equal(
        quantized._quantized(wild), (wild / quantized.scale + quantized.zero).round().clamp(0, 255).byte()
    )


@torch.inference_mode()
def test_a_channel_far_out_does_not_cost_the_others_their_precision():
    x, linear = sample(), nn.Linear(32, 16)
    x[:, 3] *= 100
    seen = range_of(x)
    plain = error(Quantized([linear], seen, torch.float32, smooth=False)(x), linear(x))
    smooth = error(Quantized([linear], seen, torch.float32)(x), linear(x))
    linear.weight[:, 3] = 0  # what is left is what the other channels lost
    others = error(Quantized([linear], seen, torch.float32)(x), linear(x))
    assert smooth < plain
    assert others < 0.1 < error(Quantized([linear], seen, torch.float32, smooth=False)(x), linear(x))


@on_int8
@torch.inference_mode()
def test_one_layer_gives_the_next_its_integers():
    x, up, down = sample(), nn.Linear(32, 64), nn.Linear(64, 32)
    inner = functional.gelu(up(x))
    last = Quantized([down], range_of(inner), torch.float32, smooth=False)
    first = Quantized([up], range_of(x), torch.uint8, then=last)
    assert first(x, gelu=True).dtype == torch.uint8
    assert error(last(first(x, gelu=True)), down(inner)) < 0.05


@torch.inference_mode()
def test_a_row_does_not_depend_on_its_neighbours_and_what_is_far_out_is_cut_off():
    x, linear = sample(), nn.Linear(32, 16)
    quantized = Quantized([linear], range_of(x), torch.float32)
    wild = x.clone()
    wild[1:] *= 1000
    assert torch.equal(quantized(wild)[0], quantized(x)[0])
    assert quantized(wild).isfinite().all()
    assert Quantized([linear], range_of(torch.zeros(2, 32)), torch.float32)(torch.zeros(2, 32)).isfinite().all()
