from __future__ import annotations

import torch

from bsm_plugins_models.heads import Head


def positions(layers):
    return [type(layer).__name__ for layer in layers]


def test_relu_and_a_linear():
    layers = Head(4, 3)
    assert positions(layers) == ["ReLU", "Linear"]
    vectors = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    assert torch.equal(layers(vectors), layers[1](torch.tensor([[0.0, 2.0, 0.0, 4.0]])))
    assert layers[1].weight.shape == (3, 4)


def test_dropout_takes_a_position():
    layers = Head(4, 5, 3, dropout=0.25)
    assert positions(layers) == ["ReLU", "Dropout", "Linear"] * 2
    assert {layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)} == {0.25}
    assert (layers[2].weight.shape, layers[5].weight.shape) == ((5, 4), (3, 5))
