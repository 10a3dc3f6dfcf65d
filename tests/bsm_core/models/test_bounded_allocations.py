from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from bsm_core.models.bounded_allocations import BoundedAllocations

BUILDS = [
    *(partial(nn.Linear, 10**6, 10**6), partial(nn.LSTM, 9, 10**6), partial(torch.ones, 200), partial(torch.rand, 200)),
    *(
        partial(torch.randn, 200),
        partial(torch.empty_strided, [200], [1]),
        partial(torch.eye, 11),
        partial(torch.eye, 200, 1),
    ),
    *(partial(torch.arange, 200), partial(torch.arange, 1, 200), partial(torch.arange, 0, 1, 0.005)),
    *(partial(torch.linspace, 0, 1, 200), lambda: torch.ones(2).repeat(99), lambda: torch.ones(2).new_empty(200)),
    *(
        lambda: torch.ones(2).new_zeros(200),
        lambda: torch.ones(2).new_full([200], 1),
        lambda: torch.ones(2).new_ones(200),
    ),
]


def test_tensors_up_to_the_limit_are_allocated():
    with BoundedAllocations(110):
        nn.Linear(10, 10)


@pytest.mark.parametrize("build", BUILDS)
def test_more_are_refused_before_they_are_allocated(build):
    with pytest.raises(ValueError, match="more than 110 values"), BoundedAllocations(110):
        build()


def test_the_device_meta_is_free():
    with BoundedAllocations(0), torch.device("meta"):
        nn.Linear(10**6, 10**6)
