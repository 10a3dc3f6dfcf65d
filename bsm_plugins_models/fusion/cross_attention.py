"""Fusion by attention of one vector to another.

Attention: Vaswani et al., 2017, arXiv:1706.03762; between modalities: Lu et al., 2019, arXiv:1908.02265. Each vector is
a sequence of length one, whose softmax is always 1. Attention therefore adds a linear map of the other vector.
"""

from __future__ import annotations

from torch import Tensor, nn


def check_heads(heads: int, size: int) -> int:
    """Return ``heads``.

    Raises:
        ValueError: ``heads`` does not divide the size of the vectors.
    """
    if size % heads:
        raise ValueError(f"{heads} heads do not divide vectors of size {size}")
    return heads


def _attention(size: int, heads: int) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(size, heads, batch_first=True)


def _attend(attention: nn.Module, query: Tensor, other: Tensor) -> Tensor:
    """Add to ``query`` its attention to ``other``; all ``[rows, size]``."""
    keys = other.unsqueeze(1)
    attended, _ = attention(query.unsqueeze(1), keys, keys, need_weights=False)
    added: Tensor = query + attended.squeeze(1)
    return added


class CrossAttention(nn.Module):
    """Attention of text to features, then of features to the result; all vectors ``[rows, size]``."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.text2tab, self.tab2text = _attention(size, heads), _attention(size, heads)
        self.text_norm, self.tab_norm = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, text: Tensor, tab: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two vectors of each row."""
        text = self.text_norm(_attend(self.text2tab, text, tab))
        tab = self.tab_norm(_attend(self.tab2text, tab, text))
        return text, tab


class TextCrossAttention(nn.Module):
    """Attention of two texts to each other, then a feed-forward layer for each; all vectors ``[rows, size]``."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attn_p2s, self.attn_s2p = _attention(size, heads), _attention(size, heads)
        self.norm_primary, self.norm_secondary = nn.LayerNorm(size), nn.LayerNorm(size)
        self.ffn_primary, self.ffn_secondary = _feed_forward(size, dropout), _feed_forward(size, dropout)
        self.norm_ffn_primary, self.norm_ffn_secondary = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, primary: Tensor, secondary: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two vectors of each row."""
        p = self.norm_primary(_attend(self.attn_p2s, primary, secondary))
        s = self.norm_secondary(_attend(self.attn_s2p, secondary, primary))
        p = self.norm_ffn_primary(p + self.ffn_primary(p))
        s = self.norm_ffn_secondary(s + self.ffn_secondary(s))
        return p, s


def _feed_forward(size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, 4 * size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * size, size), nn.Dropout(dropout)
    )
