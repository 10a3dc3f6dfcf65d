from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bsm_plugins_models.encoders.packed import attention

CPU = torch.device("cpu")


def one_chunk(qkv, heads):
    q, k, v = qkv.float().view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3)
    return functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(len(qkv), -1)


def chunk_by_chunk(qkv, lengths, heads):
    return torch.cat([one_chunk(part, heads) for part in qkv.split(lengths)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=9), heads=st.sampled_from([1, 2, 4]))
@settings(max_examples=40, deadline=None)
def test_each_chunk_attends_to_itself_alone(dtype, tolerance, lengths, heads):
    lengths = sorted(lengths, reverse=True)
    qkv = torch.randn(sum(lengths), 3 * heads * 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = attention.by_length(torch.tensor(lengths), CPU)(qkv, heads)
    assert got.dtype == dtype
    assert torch.allclose(got.float(), chunk_by_chunk(qkv, lengths, heads), atol=tolerance)


@pytest.mark.parametrize("lengths", [[300, 300, 257, 256, 255], [512], [16, 16], [1, 1, 1]])
def test_long_whole_and_short_chunks(lengths):
    qkv = torch.randn(sum(lengths), 96, generator=torch.Generator().manual_seed(2))
    got = attention.by_length(torch.tensor(lengths), CPU)(qkv, 2)
    assert torch.allclose(got, chunk_by_chunk(qkv, lengths, 2), atol=1e-5)


def test_what_lies_behind_a_chunk_weighs_nothing():
    qkv = torch.randn(26, 48, generator=torch.Generator().manual_seed(3))
    other = qkv.clone()
    other[13:] *= 100
    attend = attention.by_length(torch.tensor([13, 13]), CPU)
    assert torch.equal(attend(qkv, 2)[:13], attend(other, 2)[:13])


def test_a_gpu_kernel_is_given_bounds_and_the_longest_length(monkeypatch):
    from torch.nn.attention import varlen

    def kernel(q, k, v, bounds_q, bounds_k, longest_q, longest_k):
        assert bounds_q.dtype == torch.int32
        assert bounds_q is bounds_k
        assert longest_q == longest_k == int(bounds_q.diff().max())
        parts = [torch.stack([q[a:b], k[a:b], v[a:b]], 1) for a, b in pairwise(bounds_q)]
        return torch.cat([one_chunk(part.flatten(1), q.shape[1]) for part in parts]).view_as(q)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    lengths = [9, 4, 4, 1]
    qkv = torch.randn(18, 48, generator=torch.Generator().manual_seed(4))
    got = attention.ragged(torch.tensor(lengths), CPU)(qkv, 2)
    assert torch.allclose(got, chunk_by_chunk(qkv, lengths, 2), atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_kernel_itself():
    lengths = [70, 33, 33, 2]
    qkv = torch.randn(sum(lengths), 3 * 64, device="cuda", dtype=torch.bfloat16)
    got = attention.ragged(torch.tensor(lengths), qkv.device)(qkv, 2)
    assert torch.allclose(got.float(), chunk_by_chunk(qkv, lengths, 2), atol=3e-2)
