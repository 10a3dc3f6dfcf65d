"""Linear layers for oneDNN, with the following GELU or addition computed in the same pass.

PyTorch's own float32 product calls a library that does not use the vector units of many processors, and is slow there.
oneDNN uses them. Its operators are the private ones that ``torch.compile`` calls on the CPU: see :meth:`Packed.runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 2048
"""Number of rows for which weights are packed; products of other sizes work, too."""


class Affine(Protocol):
    """Weight and bias of a linear layer, or of a part of its outputs."""

    @property
    def weight(self) -> Tensor:
        """Weight, ``[out, in]``."""

    @property
    def bias(self) -> Tensor | None:
        """Bias, ``[out]``; None for none."""


def bias_of(linears: Sequence[Affine]) -> Tensor:
    """Return the biases of linear layers, concatenated; zeros for a layer without one."""
    biases = [linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in linears]
    return torch.cat([bias.detach() for bias in biases])


class Packed:
    """Linear layers on the CPU, ``x @ weight.T + bias``, optionally followed by GELU or a residual.

    Args:
        linears: Layers that read the same ``x``; their outputs are concatenated.
        dtype: ``torch.float32`` or ``torch.bfloat16``.
    """

    @classmethod
    @cache
    def runs(cls, dtype: torch.dtype) -> bool:
        """Check by a trial run, once, whether PyTorch has the private operators and they support the dtype here."""
        x = torch.zeros(2, 2)
        with torch.inference_mode():
            try:
                linear = cls([nn.Linear(2, 2)], dtype)
                linear(x)
                linear(x, gelu=True)
                linear(x, add=x)
            except (AttributeError, RuntimeError, TypeError):
                return False
        return True

    def __init__(self, linears: Sequence[Affine], dtype: torch.dtype) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias = bias_of(linears).to(dtype)

    def __call__(self, x: Tensor, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """Compute the layers.

        Args:
            x: Input, float ``[rows, in]``.
            gelu: Whether to apply GELU.
            add: Residual to add, ``[rows, out]``; None for none. Not together with ``gelu``.

        Returns:
            Output, ``[rows, out]``, in the dtype of the weights.
        """
        x = x.to(self.bias.dtype)
        linear = torch.ops.mkldnn._linear_pointwise
        result: Tensor
        if add is not None:
            result = linear.binary(x, add.to(x.dtype), self.weight, self.bias, "add")
        else:
            result = linear(x, self.weight, self.bias, "gelu" if gelu else "none", [], "none" if gelu else "")
        return result


class Cast:
    """Linear layers on a GPU, with the interface of :class:`Packed`, in ``torch.bfloat16`` or ``torch.float16``."""

    def __init__(self, linears: Sequence[Affine], dtype: torch.dtype) -> None:
        self.weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
        self.bias = bias_of(linears).to(dtype)

    def __call__(self, x: Tensor, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """Compute the layers: see :meth:`Packed.__call__`."""
        result = functional.linear(x.to(self.weight.dtype), self.weight, self.bias)
        if gelu:
            return functional.gelu(result)
        return result if add is None else result.add_(add)
