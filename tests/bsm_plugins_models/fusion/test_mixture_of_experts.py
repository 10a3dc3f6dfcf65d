from __future__ import annotations

import pytest
import torch
from support.models import linear

from bsm_plugins_models.fusion.mixture_of_experts import MixtureOfExperts


@pytest.mark.parametrize(
    ("text_size", "tab_size", "projections"),
    [(4, 3, {"text_proj": 4, "tab_proj": 3}), (5, 3, {"tab_proj": 3}), (4, 5, {"text_proj": 4}), (5, 5, {})],
)
def test_a_router_weighs_two_vectors_projected_where_their_size_differs(text_size, tab_size, projections):
    torch.manual_seed(0)
    fusion, text, tab = MixtureOfExperts(text_size, tab_size, 5), torch.randn(6, text_size), torch.randn(6, tab_size)
    shapes = linear("router.0", 10, 2)
    for name, size in projections.items():
        shapes |= linear(name, size, 5)
    assert {name: tuple(value.shape) for name, value in fusion.state_dict().items()} == shapes
    t = fusion.text_proj(text) if "text_proj" in projections else text
    b = fusion.tab_proj(tab) if "tab_proj" in projections else tab
    first, second = fusion.router[0](torch.cat([t, b], 1)).exp().unbind(1)
    want = (first[:, None] * t + second[:, None] * b) / (first + second)[:, None]
    assert torch.allclose(fusion(text, tab), want, atol=1e-6)
