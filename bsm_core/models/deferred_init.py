"""Leaves out the initial weights that an artifact's weights replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_FILLS = {_aten.normal_.default, _aten.uniform_.default, _aten.fill_.Scalar, _aten.zero_.default}
"""What a tensor held before does not matter to these."""
_PAST_DISPATCH = {Tensor.numpy, Tensor.tolist, Tensor.data_ptr, Tensor.__array__, Tensor.__dlpack__}
"""These read a tensor without an operation that a dispatch mode sees."""


@contextmanager
def deferred_initialisation() -> Iterator[None]:
    """A context in which the initial weights of a model wait until somebody reads them.

    Most of the time that it takes to build an encoder goes into random numbers, which the weights of the artifact then
    replace. Here filling a tensor is put off: to the first operation that reads the tensor or any view of it, or to the
    end of the context. It is left out where all of the tensor is overwritten before, as loading a state dict does. So
    whatever a model class computes from its initial weights, in this thread and by operations of PyTorch, is the same
    as without; NumPy that shares a tensor's memory is not seen, and random numbers are drawn in another order.
    """
    fillings = _Fillings()
    with fillings, _ReadsPastDispatch():
        yield
    fillings.finish()


class _Fillings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Those that wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waiting: dict[int, list[Callable[[], Any]]] = {}  # by the address of the memory to fill

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Put the operation off, or do first what its tensors wait for."""
        kwargs = kwargs or {}
        if func in _FILLS and self._put_off(func, *args, **kwargs):
            return args[0]
        if func is _aten.copy_.default and _is_whole(args[0]) and _address(args[0]) != _address(args[1]):
            self._waiting.pop(_address(args[0]), None)
        if not func.is_view:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor):
                    self._fill(_address(value))
        return func(*args, **kwargs)

    def finish(self) -> None:
        """Do those that still wait."""
        for address in list(self._waiting):
            self._fill(address)

    def _fill(self, address: int) -> None:
        for operation in self._waiting.pop(address, ()):
            operation()

    def _put_off(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> bool:
        """Whether it waits from now on: where it fills all of the tensor's memory, or more of it waits already."""
        address = _address(tensor)
        if _is_whole(tensor):
            self._waiting[address] = []
        elif address not in self._waiting:
            return False
        # Of the memory, whose address is not given away while this holds it; a parameter may be given another.
        self._waiting[address].append(partial(func, tensor.detach(), *args, **kwargs))
        return True


class _ReadsPastDispatch(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PAST_DISPATCH:
            args[0].new_empty(0)  # an operation on the tensor, which is filled for it
        return func(*args, **(kwargs or {}))


def _address(tensor: Tensor) -> int:
    """Where its memory begins, which it shares with its views; 0 where it has none, as on the device ``meta``."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _is_whole(tensor: Tensor) -> bool:
    """Whether it has memory, and no other tensor sees more of that."""
    size = tensor.numel() * tensor.element_size()
    return bool(_address(tensor)) and tensor.is_contiguous() and size == tensor.untyped_storage().nbytes()
