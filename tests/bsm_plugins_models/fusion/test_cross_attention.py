from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm

from bsm_plugins_models.fusion.cross_attention import CrossAttention, TextCrossAttention, check_heads


def taken(attention, other):
    """Return the output of attention over one vector: with a single key, the softmax over the keys is 1."""
    _, _, values = attention.in_proj_weight.chunk(3)
    _, _, bias = attention.in_proj_bias.chunk(3)
    return attention.out_proj(other @ values.T + bias)


def normed(norm, vectors):
    return layer_norm(vectors, norm.normalized_shape, norm.weight, norm.bias)


@pytest.fixture(params=[True, False], ids=["training", "evaluation"])
def two(request):
    """A maker of fusions with weights to tell apart, and two vectors a row."""

    def build(cls, *args):
        torch.manual_seed(0)
        module = cls(*args).train(request.param)
        for value in module.parameters():
            torch.nn.init.normal_(value, std=0.5)
        return module, torch.randn(5, 8), torch.randn(5, 8)

    return build


@pytest.mark.parametrize("heads", [1, 4])
def test_features_attend_to_what_text_became(two, heads):
    fusion, text, tab = two(CrossAttention, 8, heads)
    new_text = normed(fusion.text_norm, text + taken(fusion.text2tab, tab))
    new_tab = normed(fusion.tab_norm, tab + taken(fusion.tab2text, new_text))
    for got, want in zip(fusion(text, tab), (new_text, new_tab), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_two_texts_attend_to_each_other_as_they_came(two):
    fusion, primary, secondary = two(TextCrossAttention, 8, 2, 0.0)
    p = normed(fusion.norm_primary, primary + taken(fusion.attn_p2s, secondary))
    s = normed(fusion.norm_secondary, secondary + taken(fusion.attn_s2p, primary))

    def forward(layers, vectors):
        return layers[3](layers[0](vectors).relu())

    p = normed(fusion.norm_ffn_primary, p + forward(fusion.ffn_primary, p))
    s = normed(fusion.norm_ffn_secondary, s + forward(fusion.ffn_secondary, s))
    for got, want in zip(fusion(primary, secondary), (p, s), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_both_are_what_torch_calls_multihead_attention():
    for attention in (CrossAttention(8, 4).text2tab, TextCrossAttention(8, 4, 0.1).attn_p2s):
        assert isinstance(attention, torch.nn.MultiheadAttention)
        assert (attention.num_heads, attention.batch_first) == (4, True)


def test_heads_must_divide_the_size():
    assert check_heads(4, 8) == 4
    with pytest.raises(ValueError, match="3 heads do not divide vectors of size 8"):
        check_heads(3, 8)
