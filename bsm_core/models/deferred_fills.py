"""Dispatch modes that defer operations which fill a tensor, for :mod:`bsm_core.models.deferred_init`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_FILLS = {_aten.normal_.default, _aten.uniform_.default, _aten.fill_.Scalar, _aten.zero_.default}
"""Operations whose result does not depend on the previous values of the tensor."""
_PAST_DISPATCH = {Tensor.numpy, Tensor.tolist, Tensor.data_ptr, Tensor.__array__, Tensor.__dlpack__}
"""Methods that read a tensor without an operation that a dispatch mode observes."""


@contextmanager
def deferred_fills() -> Iterator[None]:
    """Defer fill operations until a tensor is read; run the remaining ones at the end, unless the block raises."""
    fills = _DeferFills()
    with fills, _ReadsPastDispatch():
        yield
    fills.finish()


class _DeferFills(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that defers weight-filling operations until a tensor is first read."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._deferred: dict[int, list[Callable[[], Any]]] = {}  # by the address of the memory to fill

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Defer a fill operation; before any other operation, run the deferred fills of its tensors."""
        kwargs = kwargs or {}
        if func in _FILLS and self._defer(func, *args, **kwargs):
            return args[0]
        if func is _aten.copy_.default and _is_whole(args[0]) and _address(args[0]) != _address(args[1]):
            self._deferred.pop(_address(args[0]), None)
        if not func.is_view:
            for value in (*args, *kwargs.values()):
                for tensor in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(tensor, Tensor):
                        self._fill(_address(tensor))
        return func(*args, **kwargs)

    def finish(self) -> None:
        """Run all fill operations that are still deferred."""
        for address in list(self._deferred):
            self._fill(address)

    def _fill(self, address: int) -> None:
        for operation in self._deferred.pop(address, ()):
            operation()

    def _defer(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> bool:
        """Defer a fill of whole memory, or of a view of memory with deferred fills; return whether it is deferred."""
        address = _address(tensor)
        if _is_whole(tensor):
            self._deferred[address] = []
        elif address not in self._deferred:
            return False
        # The detached tensor keeps the memory, and so its address, even if a parameter is given other data.
        self._deferred[address].append(partial(func, tensor.detach(), *args, **kwargs))
        return True


class _ReadsPastDispatch(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PAST_DISPATCH:
            args[0].new_empty(0)  # an operation on the tensor, before which its deferred fills run
        return func(*args, **(kwargs or {}))


def _address(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, which its views share; 0 without memory, as on the device ``meta``."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _is_whole(tensor: Tensor) -> bool:
    """Return whether a tensor has memory and covers all of it."""
    size = tensor.numel() * tensor.element_size()
    return bool(_address(tensor)) and tensor.is_contiguous() and size == tensor.untyped_storage().nbytes()
