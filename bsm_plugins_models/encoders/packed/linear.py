"""Linear layers packed for oneDNN, with what follows them done in the same pass.

PyTorch's own float32 product is slow on many processors, for it calls a library that does not know their vectors.
oneDNN does; its operators are those that ``torch.compile`` calls on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 2048
"""Rows that a product is packed for; others work too."""


class Packed:
    """``x @ weight.T + bias``, then GELU or the sum with a residual.

    Args:
        linears: Layers that read the same ``x``; their results lie beside each other.
        dtype: ``torch.float32`` or ``torch.bfloat16``.
    """

    @classmethod
    def runs(cls, dtype: torch.dtype) -> bool:
        """Whether this processor and PyTorch have it, as a trial finds: the operators are PyTorch's, not promised."""
        with torch.inference_mode():
            try:
                cls([nn.Linear(2, 2)], dtype)(torch.zeros(2, 2), gelu=True)
            except (AttributeError, RuntimeError):
                return False
        return True

    def __init__(self, linears: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias = torch.cat([linear.bias.detach() for linear in linears]).to(dtype)

    def __call__(self, x: Tensor, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """``[rows, out]`` from ``[rows, in]``, in the dtype of the weights."""
        x = x.to(self.bias.dtype)
        linear = torch.ops.mkldnn._linear_pointwise
        result: Tensor
        if add is not None:
            result = linear.binary(x, add.to(x.dtype), self.weight, self.bias, "add")
        else:
            result = linear(x, self.weight, self.bias, "gelu" if gelu else "none", [], "none" if gelu else "")
        return result


class Cast:
    """The same on a GPU, in ``torch.bfloat16`` or ``torch.float16``."""

    def __init__(self, linears: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        self.weight = torch.cat([linear.weight.detach() for linear in linears]).to(dtype)
        self.bias = torch.cat([linear.bias.detach() for linear in linears]).to(dtype)

    def __call__(self, x: Tensor, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """As that of :class:`Packed`."""
        result = functional.linear(x.to(self.weight.dtype), self.weight, self.bias)
        if gelu:
            return functional.gelu(result)
        return result if add is None else result.add_(add)
