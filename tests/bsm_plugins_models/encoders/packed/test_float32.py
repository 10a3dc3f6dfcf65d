from __future__ import annotations

import pytest
import torch

from bsm_plugins_models.encoders.packed import float32

SETTING = torch.backends.mkldnn.matmul


@pytest.fixture
def untried():
    float32._is_exact.cache_clear()
    yield
    float32._is_exact.cache_clear()


def test_products_are_those_of_float32():
    a, b = torch.randn(2, 12, 77, 32, generator=torch.Generator().manual_seed(5))
    with float32.by_onednn():
        got = torch.bmm(a, b.transpose(1, 2))
    want = torch.bmm(a.double(), b.double().transpose(1, 2))
    assert (got - want).abs().max() < 1e-4


def test_the_setting_is_taken_back_by_the_last_that_needs_it(untried, monkeypatch):
    monkeypatch.setattr(float32, "_is_exact", lambda: True)
    before, seen = SETTING.fp32_precision, []

    def use():
        with float32.by_onednn():
            with float32.by_onednn():
                seen.append(SETTING.fp32_precision)
            seen.append(SETTING.fp32_precision)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert seen == ["bf16", "bf16"]
    assert SETTING.fp32_precision == before


def test_a_processor_that_computes_them_in_bfloat16_is_left_as_it_is(untried, monkeypatch):
    exact = torch.bmm

    def rounded(a, b):
        if SETTING.fp32_precision == "bf16":
            a, b = a.bfloat16().float(), b.bfloat16().float()
        return exact(a, b)

    monkeypatch.setattr(torch, "bmm", rounded)
    with float32.by_onednn():
        assert SETTING.fp32_precision != "bf16"


def test_a_pytorch_without_the_setting_is_left_as_it_is(untried, monkeypatch):
    monkeypatch.setattr(float32, "_matmul_settings", lambda: None)
    with float32.by_onednn():
        assert SETTING.fp32_precision != "bf16"
