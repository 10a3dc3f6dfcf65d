from __future__ import annotations

import pytest
import torch

from bsm_plugins_models.encoders.lstm import BidirectionalLstm


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_forward_half_at_the_last_position_and_backward_half_at_the_first(layers):
    torch.manual_seed(0)
    lstm, embedded = BidirectionalLstm(4, 5, layers).eval(), torch.randn(3, 7, 4)
    outputs, _ = torch.nn.LSTM.forward(lstm, embedded)
    assert torch.equal(lstm(embedded), torch.cat([outputs[:, -1, :5], outputs[:, 0, 5:]], 1))


def test_the_weights_have_the_names_of_torch():
    names = torch.nn.LSTM(4, 5, 2, bidirectional=True).state_dict().keys()
    assert BidirectionalLstm(4, 5, 2).state_dict().keys() == names
