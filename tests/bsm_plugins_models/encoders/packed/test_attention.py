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


def starts_of(lengths):
    return torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)


def of_first_tokens(attend, qkv, lengths, heads):
    size = qkv.shape[1] // 3
    return attend.first(qkv[starts_of(lengths), :size].contiguous(), qkv[:, size:].contiguous(), heads)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=9), heads=st.sampled_from([1, 2, 4]))
@settings(max_examples=40)
def test_each_chunk_attends_to_itself_alone(dtype, tolerance, lengths, heads):
    lengths = sorted(lengths, reverse=True)
    qkv = torch.randn(sum(lengths), 3 * heads * 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    attend, want = attention.ByLength(torch.tensor(lengths), CPU), chunk_by_chunk(qkv, lengths, heads)
    got, first = attend(qkv, heads), of_first_tokens(attend, qkv, lengths, heads)
    assert got.dtype == first.dtype == dtype
    assert torch.allclose(got.float(), want, atol=tolerance)
    assert torch.allclose(first.float(), want[starts_of(lengths)], atol=tolerance)


@pytest.mark.parametrize("lengths", [[300, 300, 257, 256, 255], [512], [16, 16], [1, 1, 1]])
def test_long_whole_and_short_chunks(lengths):
    qkv = torch.randn(sum(lengths), 96, generator=torch.Generator().manual_seed(2))
    got = attention.ByLength(torch.tensor(lengths), CPU)(qkv, 2)
    assert torch.allclose(got, chunk_by_chunk(qkv, lengths, 2), atol=1e-5)


def test_what_lies_behind_a_chunk_weighs_nothing():
    qkv = torch.randn(26, 48, generator=torch.Generator().manual_seed(3))
    other = qkv.clone()
    other[13:] *= 100
    attend = attention.ByLength(torch.tensor([13, 13]), CPU)
    assert torch.equal(attend(qkv, 2)[:13], attend(other, 2)[:13])


def test_a_gpu_kernel_is_given_bounds_and_the_longest_lengths(monkeypatch):
    from torch.nn.attention import varlen

    def kernel(q, k, v, bounds_q, bounds_k, longest_q, longest_k):
        assert bounds_q.dtype == bounds_k.dtype == torch.int32
        assert (longest_q, longest_k) == (int(bounds_q.diff().max()), int(bounds_k.diff().max()))
        chunks = zip(pairwise(bounds_q), pairwise(bounds_k), strict=True)
        parts = [(q[a:b], k[c:d], v[c:d]) for (a, b), (c, d) in chunks]
        return torch.cat(
            [
                functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part)).transpose(0, 1)
                for part in parts
            ]
        )

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    lengths = [9, 4, 4, 1]
    qkv = torch.randn(18, 48, generator=torch.Generator().manual_seed(4))
    attend, want = attention.Ragged(torch.tensor(lengths), CPU), chunk_by_chunk(qkv, lengths, 2)
    assert torch.allclose(attend(qkv, 2), want, atol=1e-6)
    assert torch.allclose(of_first_tokens(attend, qkv, lengths, 2), want[starts_of(lengths)], atol=1e-6)


@pytest.mark.parametrize("error", [ImportError("none"), RuntimeError("heads of 7 are not taken"), None])
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
def test_a_gpu_without_the_kernel_does_without(monkeypatch, capability, error):
    from torch.nn.attention import varlen

    def kernel(q, *others):
        if error:
            raise error
        return q

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    assert attention.Ragged.runs(24, 3, torch.bfloat16, CPU) == (capability == (9, 0) and error is None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_kernel_itself():
    lengths = [70, 33, 33, 2]
    qkv = torch.randn(sum(lengths), 3 * 64, device="cuda", dtype=torch.bfloat16)
    attend, want = attention.Ragged(torch.tensor(lengths), qkv.device), chunk_by_chunk(qkv, lengths, 2)
    assert torch.allclose(attend(qkv, 2).float(), want, atol=3e-2)
    assert torch.allclose(of_first_tokens(attend, qkv, lengths, 2).float(), want[starts_of(lengths)], atol=3e-2)
