"""Linear layers in int8, with a scale for each output channel of the weights and fixed scales for activations.

The scales of activations are computed once, from the check rows of the artifact. So a row's scores do not depend on the
other rows of its batch. Channels with large activations are scaled down, and the weights that read them are scaled up
(SmoothQuant: Xiao et al., 2023, arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bsm_plugins_models.encoders.packed.linear import ROWS, Affine, bias_of

_ZERO = 128
_INTEGERS = 2.0**23
"""Value from which adjacent float32 numbers are integers: adding it to a number rounds to the nearest integer."""
_HEADROOM = 1.1
"""Factor by which an activation may exceed the range of the sample before it is clamped."""


Range: TypeAlias = tuple[Tensor, Tensor]
"""Minimum and maximum of a layer's input activations, per channel; float32 ``[channels]`` each."""


def range_of(x: Tensor) -> Range:
    """Return the range of activations ``[rows, channels]``."""
    return x.float().aminmax(dim=0)


class Quantized:
    """Linear layers on the CPU in int8, with the interface of ``Packed``.

    Args:
        linears: Layers that read the same ``x``; their outputs are concatenated.
        in_range: Range of ``x``.
        out_dtype: Dtype of the output; ``torch.uint8`` to pass it to another quantized layer.
        then: The layer that reads the output, if it is uint8. The output is quantized with that layer's scale.
        smooth: Whether each channel of ``x`` has its own scale (SmoothQuant); False if ``x`` is uint8.
    """

    @classmethod
    @cache
    def runs(cls) -> bool:
        """Check by a trial run, once, whether PyTorch has the operators and this processor computes them correctly.

        Processors without VNNI accumulate products of integers in 16 bits, which overflow.
        """
        linear = nn.Linear(64, 2)
        with torch.inference_mode():
            linear.weight.copy_(torch.tensor([1.0, -1.0])[:, None].expand(2, 64))
            x = torch.ones(2, 64)
            try:
                product = cls([linear], range_of(x), torch.float32)(x)
            except (AttributeError, RuntimeError, TypeError):
                return False
            return bool(torch.allclose(product, linear(x), rtol=0.05))

    def __init__(
        self,
        linears: Sequence[Affine],
        in_range: Range,
        out_dtype: torch.dtype,
        then: Quantized | None = None,
        smooth: bool = True,
    ) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.bias = bias_of(linears)
        self.out_dtype, self.then = out_dtype, then
        low, high = (bound * _HEADROOM for bound in in_range)
        if smooth:
            by_channel = _smoothing(torch.maximum(-low, high), weight)
            self.scale = float((torch.maximum(-low, high) / by_channel).max().clamp(min=1e-8)) / 127
            self.zero, self._inverse = _ZERO, 1 / (by_channel * self.scale)
            weight = weight * by_channel
        else:
            bottom, top = min(0.0, float(low.min())), max(0.0, float(high.max()))
            self.scale = max(top - bottom, 1e-8) / 255
            self.zero, self._inverse = round(-bottom / self.scale), torch.tensor(1 / self.scale)
        self._weight_scale = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        rounded = (weight / self._weight_scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, [ROWS, weight.shape[1]])
        self._weight_zero = torch.zeros(len(weight), dtype=torch.int8)
        self._shift = torch.tensor(_INTEGERS + self.zero)

    def __call__(self, x: Tensor, gelu: bool = False, add: Tensor | None = None) -> Tensor:
        """Compute the layers.

        Args:
            x: Input ``[rows, in]``, float, or uint8 in the scale of this layer.
            gelu: Whether to apply GELU.
            add: Residual to add, ``[rows, out]``; None for none. Not together with ``gelu``.

        Returns:
            Output, ``[rows, out]``, of ``out_dtype``.
        """
        q = x if x.dtype == torch.uint8 else self._quantized(x)
        inputs = (q, self.scale, self.zero, self._weight, self._weight_scale, self._weight_zero)
        linear = torch.ops.onednn.qlinear_pointwise
        result: Tensor
        if add is not None:
            result = linear.binary(
                *inputs, add, self.bias, 1.0, 0, self.out_dtype, 1.0, 0, "add", 1.0, "none", [], ""
            )  # fmt: skip
        else:
            scale, zero = (self.then.scale, self.then.zero) if self.then else (1.0, 0)
            after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            result = linear(*inputs, self.bias, scale, zero, self.out_dtype, *after)
        return result

    def _quantized(self, x: Tensor) -> Tensor:
        """Round ``x / scale + zero`` to the nearest uint8.

        The sum with 2**23 has no fractional digits, and its lowest byte is the rounded number.
        """
        shifted = torch.addcmul(self._shift, x, self._inverse).clamp_(_INTEGERS, _INTEGERS + 255)
        return shifted.view(torch.int32).to(torch.uint8)  # three times as fast as float32 to uint8


def _smoothing(activations: Tensor, weight: Tensor) -> Tensor:
    """Return the SmoothQuant scale of each channel, ``[in]``: sqrt(largest activation / largest weight).

    Args:
        activations: Largest absolute activation of each channel, ``[in]``.
        weight: Weights ``[out, in]``.
    """
    scale = (activations.clamp(min=1e-5) / weight.abs().amax(dim=0).clamp(min=1e-5)).sqrt()
    return scale / scale.mean()
