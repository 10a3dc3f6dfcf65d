"""Linear layers in int8: weights by output channel, activations by fixed scales.

The scales are those of a few rows that came with the artifact, so a row's scores do not depend on its neighbours, as
they do where scales are taken from each batch. A channel far out of line is divided out of the activation and
multiplied into the weight beforehand (SmoothQuant: Xiao et al., 2023, arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bsm_plugins_models.encoders.packed.linear import ROWS

_ZERO = 128
_INTEGERS = 2.0**23
"""From here on float32 holds integers alone, the last byte counting up."""
_HEADROOM = 1.1
"""How much further than in the sample an activation may go before it is cut off."""


@dataclass
class Range:
    """How far the activations that a layer reads go, by channel.

    Attributes:
        low, high: float32 ``[channels]``.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Range:
        """That of activations ``[rows, channels]``."""
        low, high = x.float().aminmax(dim=0)
        return cls(low, high)


class Quantized:
    """As :class:`~bsm_plugins_models.encoders.packed.linear.Packed`, in int8.

    Args:
        linears: Layers that read the same ``x``.
        reads: The range of ``x``.
        gives: The dtype of what it gives; ``torch.uint8`` for the next layer, whose ``scale`` is then ``then``'s.
        then: The layer that reads what this one gives, where that is uint8; both have one scale for all channels.
        smooth: Divide channels by scales of their own first; not where ``x`` comes as uint8.
    """

    @classmethod
    def runs(cls) -> bool:
        """Whether this processor and PyTorch have it, and have it right.

        Processors without VNNI add products of large integers up in 16 bits, which are not enough.
        """
        linear = nn.Linear(64, 2)
        with torch.inference_mode():
            linear.weight.copy_(torch.tensor([1.0, -1.0])[:, None].expand(2, 64))
            x = torch.ones(2, 64)
            try:
                product = cls([linear], Range.of(x), torch.float32)(x)
            except (AttributeError, RuntimeError):
                return False
            return bool(torch.allclose(product, linear(x), rtol=0.05))

    def __init__(
        self,
        linears: Sequence[nn.Linear],
        reads: Range,
        gives: torch.dtype,
        then: Quantized | None = None,
        smooth: bool = True,
    ) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.bias = torch.cat([linear.bias.detach() for linear in linears])
        self.gives, self.then = gives, then
        low, high = reads.low * _HEADROOM, reads.high * _HEADROOM
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
        """``[rows, out]`` from ``[rows, in]``, float or uint8."""
        q = x if x.dtype == torch.uint8 else self._quantized(x)
        reads = (q, self.scale, self.zero, self._weight, self._weight_scale, self._weight_zero)
        linear = torch.ops.onednn.qlinear_pointwise
        result: Tensor
        if add is not None:
            result = linear.binary(
                *reads, add, self.bias, 1.0, 0, self.gives, 1.0, 0, "add", 1.0, "none", [], ""
            )  # fmt: skip
        else:
            scale, zero = (self.then.scale, self.then.zero) if self.then else (1.0, 0)
            after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            result = linear(*reads, self.bias, scale, zero, self.gives, *after)
        return result

    def _quantized(self, x: Tensor) -> Tensor:
        """uint8, rounded to the nearest: the lowest byte of a sum too large for anything behind the point."""
        shifted = torch.addcmul(self._shift, x, self._inverse).clamp_(_INTEGERS, _INTEGERS + 255)
        return shifted.view(torch.int32).to(torch.uint8)  # three times as fast as from float32


def _smoothing(activations: Tensor, weight: Tensor) -> Tensor:
    """A scale for each channel ``[in]`` that shares what is far out between activations and weights."""
    scale = (activations.clamp(min=1e-5) / weight.abs().amax(dim=0).clamp(min=1e-5)).sqrt()
    return scale / scale.mean()
