"""Limit on the memory of a model that is built from a config which may come from anyone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_SIZES: dict[Any, Callable[..., float]] = {
    **dict.fromkeys((_aten.empty.memory_format, _aten.empty_strided.default), lambda shape, *_: math.prod(shape)),
    **dict.fromkeys((_aten.zeros.default, _aten.ones.default, _aten.full.default), lambda shape, *_: math.prod(shape)),
    **dict.fromkeys((_aten.rand.default, _aten.randn.default), lambda shape, *_: math.prod(shape)),
    **dict.fromkeys((_aten.new_empty.default, _aten.new_zeros.default), lambda like, shape, *_: math.prod(shape)),
    **dict.fromkeys((_aten.new_ones.default, _aten.new_full.default), lambda like, shape, *_: math.prod(shape)),
    _aten.repeat.default: lambda tensor, repeats: tensor.numel() * math.prod(repeats),
    _aten.arange.default: lambda end: end,
    _aten.arange.start: lambda start, end: end - start,
    _aten.arange.start_step: lambda start, end, step=1: (end - start) / step,
    _aten.linspace.default: lambda start, end, steps: steps,
    _aten.eye.default: lambda n: n * n,
    _aten.eye.m: lambda n, m: n * m,
}
"""Operations that are counted, with functions of their arguments that return the number of new values."""


class BoundedAllocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode in which new tensors have a limited number of values altogether.

    Args:
        most: The number of values.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = self._left = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the values of a new tensor before it is allocated; the device ``meta`` allocates nothing.

        Raises:
            ValueError: The tensors would have too many values.
        """
        kwargs = kwargs or {}
        if func in _SIZES and str(kwargs.get("device")) != "meta":
            self._left -= max(0, math.ceil(_SIZES[func](*args)))
            if self._left < 0:
                problem = f"it would have more than {self._most:,} values, far more than the artifact's weights have"
                raise ValueError(f"{problem}; a size in the config is too large")
        return func(*args, **kwargs)
