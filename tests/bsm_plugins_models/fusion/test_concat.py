from __future__ import annotations

import torch

from bsm_plugins_models.fusion.concat import concat, or_zeros


def test_vectors_side_by_side():
    first, second = torch.ones(2, 1), torch.zeros(2, 2)
    assert concat(first, second).tolist() == [[1, 0, 0]] * 2


def test_a_part_that_is_not_there_takes_no_room():
    vectors = torch.ones(2, 1)
    assert torch.equal(concat(None, vectors, None), vectors)


def test_zeros_stand_for_vectors_that_are_not_there():
    vectors = torch.ones(2, 3, dtype=torch.bfloat16)
    assert or_zeros(vectors, torch.zeros(2, 3)) is vectors
    zeros = or_zeros(None, vectors)
    assert zeros.tolist() == [[0.0] * 3] * 2
    assert zeros.dtype == torch.bfloat16
