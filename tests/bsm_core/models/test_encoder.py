from __future__ import annotations

import pytest
import torch
from torch import nn

from bsm_core import Backend, Encoder, TextBatch, TokenBudget


class Sums(Encoder):
    """Of each chunk a linear layer of the sum of its ids."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(1, 3)
        self.seen = []

    def encode(self, input_ids, attention_mask):
        self.seen.append(tuple(input_ids.shape))
        return self.linear((input_ids * attention_mask).sum(1, keepdim=True).float())


ROWS = TextBatch.from_rows([[[1, 2, 3], [4]], [], [[5, 6]]])


def test_by_itself_an_encoder_is_eager_padded_and_float32():
    encoder = Sums().eval()
    assert encoder.backend == Backend("eager", "fp32")
    assert encoder.backends() == {}
    got = encoder(ROWS, TokenBudget(6))
    want = (encoder.linear(torch.tensor([[6.0]])) + encoder.linear(torch.tensor([[4.0]]))) / 2
    assert torch.allclose(got[0], want[0])
    assert encoder.seen == [(2, 3), (1, 1)]


@torch.inference_mode()
def test_a_back_end_gets_chunks_without_padding_as_many_as_suit_it():
    encoder, seen = Sums().eval(), []

    def encode(tokens, lengths):
        assert tokens.dtype == torch.int32
        seen.append((tokens.tolist(), lengths.tolist()))
        return torch.stack([part.sum().float() for part in tokens.split(lengths.tolist())])[:, None]

    encoder.backend = Backend("mine", "fp32", encode, tokens=5)
    assert encoder(ROWS, TokenBudget(1000)).tolist() == [[5.0], [0.0], [11.0]]
    assert seen == [([1, 2, 3, 5, 6], [3, 2]), ([4], [1])]
    seen.clear()
    assert encoder(ROWS, TokenBudget(2)).tolist() == [[5.0], [0.0], [11.0]]
    assert [lengths for _, lengths in seen] == [[3], [2], [1]]
    assert encoder(TextBatch.from_rows([[], []]), TokenBudget(2)).tolist() == [[0.0], [0.0]]


def test_who_wants_gradients_gets_the_encoders_own_code():
    encoder = Sums().eval()
    encoder.backend = Backend("mine", "fp32", lambda tokens, lengths: pytest.fail("it has no gradients"))
    encoder(ROWS, TokenBudget(6)).sum().backward()
    assert encoder.linear.weight.grad is not None


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_eager_in_another_precision_leaves_the_weights_as_they_are(precision, dtype):
    encoder = Sums().eval()
    encoder.backend = Backend("eager", precision)
    dtypes = []
    encoder.linear.register_forward_hook(lambda module, given, result: dtypes.append(result.dtype))
    assert encoder(ROWS, TokenBudget(100)).dtype == torch.float32
    assert set(dtypes) == {dtype}
    assert encoder.linear.weight.dtype == torch.float32


def test_training_is_eager_and_float32():
    encoder = Sums().train()
    encoder.backend = Backend("mine", "bf16", encode=None)
    dtypes = []
    encoder.linear.register_forward_hook(lambda module, given, result: dtypes.append(result.dtype))
    encoder(ROWS, TokenBudget(100))
    encoder.backend = Backend("mine", "fp32", encode=lambda tokens, lengths: pytest.fail("it trains"))
    encoder(ROWS, TokenBudget(100)).sum().backward()
    assert set(dtypes) == {torch.float32}
    assert encoder.linear.weight.grad is not None


def test_a_backend_of_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'mine' has the precision 'fp8', expected one of fp32, bf16, fp16, int8"):
        Backend("mine", "fp8")
