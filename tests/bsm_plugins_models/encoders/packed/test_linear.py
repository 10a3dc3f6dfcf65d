from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from bsm_plugins_models.encoders.packed.linear import Cast, Packed

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def test_the_trial_runs_once_in_a_process_for_each_dtype(monkeypatch):
    made = []
    init = Packed.__init__
    monkeypatch.setattr(Packed, "__init__", lambda self, *given: (made.append(given[1]), init(self, *given))[1])
    Packed.runs.cache_clear()
    for _ in range(2):
        Packed.runs(torch.float32)
        Packed.runs(torch.bfloat16)
    assert made == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("kind", [Packed, Cast])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("rows", [1, 7, 3000])
@torch.inference_mode()
def test_it_is_the_linears_side_by_side_then_gelu_or_a_sum(kind, dtype, rows):
    if kind is Packed and dtype != torch.float32 and not Packed.runs(dtype):
        pytest.skip(f"this processor, or this PyTorch, has no products in {dtype}")
    torch.manual_seed(0)
    linears = [nn.Linear(24, 10), nn.Linear(24, 6)]
    x, residual = torch.randn(rows, 24), torch.randn(rows, 16)
    want = torch.cat([linear(x) for linear in linears], dim=1)
    packed = kind(linears, dtype)
    for got, wanted in (
        (packed(x), want),
        (packed(x, gelu=True), functional.gelu(want)),
        (packed(x, add=residual), want + residual),
    ):
        assert got.dtype == dtype
        assert torch.allclose(got.float(), wanted, atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])
