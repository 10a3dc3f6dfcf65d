"""Fusion by a router that weights whole vectors (Jacobs et al., 1991, "Adaptive mixtures of local experts")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bsm_plugins_models.fusion.projection import projection


class MixtureOfExperts(nn.Module):
    """Weighted sum ``w0 * text + w1 * tab``, both projected to ``[rows, size]``; the weights of a row sum to one."""

    def __init__(self, text_size: int, tab_size: int, size: int) -> None:
        super().__init__()
        self.text_proj, self.tab_proj = projection(text_size, size), projection(tab_size, size)
        self.router = nn.Sequential(nn.Linear(2 * size, 2), nn.Softmax(dim=1))

    def forward(self, text: Tensor, tab: Tensor) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        text, tab = self.text_proj(text), self.tab_proj(tab)
        weights = self.router(torch.cat([text, tab], dim=1))
        fused: Tensor = weights[:, :1] * text + weights[:, 1:] * tab
        return fused
