from __future__ import annotations

import pytest
import torch

from bsm_plugins_models.encoders.precision import in_precision_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_values_come_in_the_precision_of_the_weights(dtype):
    assert in_precision_of(torch.nn.Linear(2, 2).to(dtype), torch.ones(3)).dtype == dtype
