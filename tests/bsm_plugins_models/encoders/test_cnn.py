from __future__ import annotations

import pytest
import torch
from support.models import CONFIG, token_rows

from bsm_core import TextBatch, TokenBudget
from bsm_plugins_models.encoders.cnn import CnnConfig, CnnTextEncoder, positions_left


def make(**values):
    torch.manual_seed(0)
    return CnnTextEncoder(CnnConfig.model_validate({**CONFIG, **values})).eval()


def reference(encoder, rows, kernels, layers, length):
    """Each chunk by itself, with ids padded by hand, and each maximum taken by hand."""
    vectors = []
    for row in rows:
        chunks = []
        for chunk in row:
            embedded = encoder.embeddings.weight[torch.tensor(chunk + [0] * (length - len(chunk)))]
            parts = []
            for i, kernel in enumerate(kernels):
                x = embedded.T[None]
                for layer in range(layers):
                    convolution = encoder.convs[i][3 * layer]
                    x = torch.conv1d(x, convolution.weight, convolution.bias).relu()
                    whole = x.shape[2] // kernel * kernel
                    x = x[..., :whole].unflatten(2, (-1, kernel)).amax(3) if layer < layers - 1 else x.amax(2)
                parts.append(x[0])
            chunks.append(torch.cat(parts))
        vectors.append(encoder.network[1](torch.stack(chunks).mean(0)))
    return torch.stack(vectors)


@pytest.mark.parametrize(
    ("kernels", "channels"), [((2, 3), (5, 6)), ((16,), (4,)), ((3, 1), (7, 6)), ((2,), (3, 4, 5))], ids=str
)
def test_convolutions_over_padded_ids_mean_over_chunks_then_linear(kernels, channels):
    encoder = make(kernel_size=kernels, num_channels=channels, num_layers=len(channels))
    rows = token_rows(5)
    with torch.inference_mode():
        got = encoder(TextBatch.from_rows(rows), TokenBudget(40))
        want = reference(encoder, rows, kernels, len(channels), 16)
    assert got.shape == (5, 8)
    assert torch.allclose(got, want, atol=1e-6)


def test_padding_counts():
    encoder = make()
    with torch.no_grad():
        encoder.embeddings.weight[0] += 10
    text = TextBatch.from_rows([[[5, 6]], [[5, 6, 0, 0]]])
    with torch.inference_mode():
        short, padded = encoder(text, TokenBudget(100))
        assert torch.allclose(short, padded, atol=1e-6)
        assert not torch.allclose(short, make()(text, TokenBudget(100))[0], atol=1e-3)


@pytest.mark.parametrize(("length", "kernel", "layers", "left"), [(64, 7, 2, 2), (16, 3, 2, 2), (16, 16, 1, 1)])
def test_positions_that_are_left(length, kernel, layers, left):
    assert positions_left(length, kernel, layers) == left


def refused(**values):
    with pytest.raises(ValueError, match="validation error") as caught:
        CnnConfig.model_validate({**CONFIG, **values})
    return {error["loc"][0]: error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def test_kernels_that_do_not_fit_are_refused():
    assert refused(kernel_size=[3, 4, 7]) == {
        "kernel_size": "kernels [4, 7] are too large for max_sen_len = 16 and 2 layer(s)"
    }
    assert refused(max_sen_len=4, kernel_size=[2, 5], num_layers=1, num_channels=[3]) == {
        "kernel_size": "kernels [5] are too large for max_sen_len = 4 and 1 layer(s)"
    }
    assert list(refused(kernel_size=[])) == ["kernel_size"]
    assert list(refused(kernel_size=[0])) == ["kernel_size"]


def test_channels_are_one_for_each_layer():
    assert refused(num_layers=3, max_sen_len=64) == {"num_channels": "2 value(s) for num_layers = 3"}
    values = {key: value for key, value in CONFIG.items() if key not in ("num_channels", "num_layers")}
    assert CnnConfig.model_validate({**values, "num_layers": 1}).num_channels == (100,)
    assert CnnConfig.model_validate({**values, "num_layers": 1, "num_channels": [5, 6]}).num_channels == (5,)


def test_the_default_kernels_are_checked_too():
    values = {key: value for key, value in CONFIG.items() if key not in ("kernel_size", "num_channels", "num_layers")}
    with pytest.raises(ValueError, match="too large for max_sen_len = 16"):
        CnnConfig.model_validate(values)
    defaults = CnnConfig.model_validate({**values, "max_sen_len": 64})
    assert (defaults.kernel_size, defaults.num_channels, defaults.num_layers) == ((3, 5, 7), (100, 100), 2)


@pytest.mark.parametrize("keep", [0, 1.5, -1])
def test_a_share_to_keep_that_is_none_is_refused(keep):
    assert list(refused(dropout_keep=keep)) == ["dropout_keep"]


def test_dropout_keep_is_what_stays():
    assert make(dropout_keep=0.7).network[0].p == pytest.approx(0.3)
    assert make(dropout_keep=1).network[0].p == 0
