from __future__ import annotations

import pytest
import torch
from support.models import linear, norm

from bsm_plugins_models.fusion.gate import GateFusion, ThreeGateFusion


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def sigmoid_of(gate, vectors):
    weights = gate.state_dict()
    mapped = vectors @ weights["0.weight"].T + weights["0.bias"]
    normed = (mapped - mapped.mean(1, keepdim=True)) / (mapped.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return 1 / (1 + torch.exp(-(normed * weights["1.weight"] + weights["1.bias"])))


def test_a_gate_between_text_and_features():
    fusion, text, tab = GateFusion(4, 3, 5), torch.randn(6, 4), torch.randn(6, 3)
    t, b = fusion.text_proj(text), fusion.tab_proj(tab)
    gate = sigmoid_of(fusion.gate_net, torch.cat([t, b], 1))
    assert torch.allclose(fusion(text, tab), gate * t + (1 - gate) * b, atol=1e-6)
    assert shapes(fusion) == (
        linear("text_proj", 4, 5) | linear("tab_proj", 3, 5) | linear("gate_net.0", 10, 5) | norm("gate_net.1", 5)
    )


def test_three_gates_share_a_row_between_them():
    fusion = ThreeGateFusion(4, 3, 2, 5)
    inputs = torch.randn(6, 4), torch.randn(6, 3), torch.randn(6, 2)
    projections = fusion.primary_proj, fusion.secondary_proj, fusion.tab_proj
    p, s, t = (project(vectors) for project, vectors in zip(projections, inputs, strict=True))
    gates = sigmoid_of(fusion.trimodal_gate, torch.cat([p, s, t], 1))
    first, second, third = gates[:, :5], gates[:, 5:10], gates[:, 10:]
    want = (first * p + second * s + third * t) / (first + second + third + 1e-8)
    assert torch.allclose(fusion(*inputs), want, atol=1e-6)


def test_without_features_one_gate_between_the_texts():
    fusion, primary, secondary = ThreeGateFusion(4, 3, None, 5), torch.randn(6, 4), torch.randn(6, 3)
    p, s = fusion.primary_proj(primary), fusion.secondary_proj(secondary)
    gate = sigmoid_of(fusion.gate_primary_secondary, torch.cat([p, s], 1))
    assert torch.allclose(fusion(primary, secondary, None), gate * p + (1 - gate) * s, atol=1e-6)


def test_what_artifacts_store_unused_is_there_and_takes_no_part():
    fusion = ThreeGateFusion(4, 3, 2, 5)
    gates = {"gate_primary_secondary": 5, "gate_text_tab": 5}
    unused = {name for gate, size in gates.items() for name in linear(f"{gate}.0", 10, size) | norm(f"{gate}.1", size)}
    assert unused < set(fusion.state_dict())
    assert {name for name, value in fusion.named_parameters() if not value.requires_grad} == unused
    texts_alone = ThreeGateFusion(4, 3, None, 5)
    assert (
        set(texts_alone.state_dict())
        == (
            linear("primary_proj", 4, 5)
            | linear("secondary_proj", 3, 5)
            | linear("gate_primary_secondary.0", 10, 5)
            | norm("gate_primary_secondary.1", 5)
        ).keys()
    )
    assert all(value.requires_grad for value in texts_alone.parameters())
