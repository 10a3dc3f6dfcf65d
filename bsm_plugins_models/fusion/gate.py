"""Fusion by gates: learned weights between 0 and 1 for each dimension (Arevalo et al., 2017, arXiv:1702.01992)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _gate(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.Sigmoid())


def _blend(gate: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    share = gate(torch.cat([first, second], dim=1))
    blended: Tensor = share * first + (1 - share) * second
    return blended


class GateFusion(nn.Module):
    """Gated sum of two vectors: ``g * text + (1 - g) * tab``, both projected to ``[rows, size]``."""

    def __init__(self, text_size: int, tab_size: int, size: int) -> None:
        super().__init__()
        self.text_proj = nn.Linear(text_size, size)
        self.tab_proj = nn.Linear(tab_size, size)
        self.gate_net = _gate(2 * size, size)

    def forward(self, text: Tensor, tab: Tensor) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        return _blend(self.gate_net, self.text_proj(text), self.tab_proj(tab))


class ThreeGateFusion(nn.Module):
    """Sum of three vectors, each projected to ``[rows, size]`` and weighted by its gate; the weights sum to one.

    Without features (``tab_size`` is None), the sum is ``g * primary + (1 - g) * secondary``.
    """

    def __init__(self, primary_size: int, secondary_size: int, tab_size: int | None, size: int) -> None:
        super().__init__()
        self.primary_proj = nn.Linear(primary_size, size)
        self.secondary_proj = nn.Linear(secondary_size, size)
        self.gate_primary_secondary = _gate(2 * size, size)
        if tab_size is not None:
            self.tab_proj = nn.Linear(tab_size, size)
            self.gate_text_tab = _gate(2 * size, size)
            self.trimodal_gate = _gate(3 * size, 3 * size)
            # Not used with features, but artifacts store them.
            self.gate_primary_secondary.requires_grad_(False)
            self.gate_text_tab.requires_grad_(False)

    def forward(self, primary: Tensor, secondary: Tensor, tab: Tensor | None) -> Tensor:
        """Return fused vectors, float ``[rows, size]``."""
        vectors = [self.primary_proj(primary), self.secondary_proj(secondary)]
        if tab is None:
            return _blend(self.gate_primary_secondary, *vectors)
        vectors.append(self.tab_proj(tab))
        gates = self.trimodal_gate(torch.cat(vectors, dim=1)).chunk(3, dim=1)
        weighted = [gate / (sum(gates) + 1e-8) * vector for gate, vector in zip(gates, vectors, strict=True)]
        return torch.stack(weighted).sum(dim=0)
