from __future__ import annotations

import torch

from bsm_plugins_models.fusion.projection import projection


def test_a_linear_where_the_sizes_differ():
    assert projection(3, 2).weight.shape == (2, 3)


def test_nothing_where_they_are_the_same():
    vectors = torch.randn(2, 3)
    assert projection(3, 3)(vectors) is vectors
    assert projection(3, 3).state_dict() == {}
