from __future__ import annotations

import torch

from bsm_plugins_models.fusion.concat import concat_head


def test_relu_and_a_linear():
    head = concat_head(4, 3)
    vectors = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    assert torch.equal(head(vectors), head[1](torch.tensor([[0.0, 2.0, 0.0, 4.0]])))
    assert set(head.state_dict()) == {"1.weight", "1.bias"}
    assert head[1].weight.shape == (3, 4)
