"""Limit on the memory of a model that is built from a config which may come from anyone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ALLOCATIONS = {_aten.empty.memory_format, _aten.zeros.default, _aten.ones.default, _aten.full.default}


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
        if func in _ALLOCATIONS and str(kwargs.get("device")) != "meta":
            self._left -= math.prod(args[0])
            if self._left < 0:
                problem = f"it would have more than {self._most:,} values, far more than the artifact's weights have"
                raise ValueError(f"{problem}; a size in the config is too large")
        return func(*args, **kwargs)
