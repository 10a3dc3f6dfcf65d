"""Float32 products of many small matrices, by oneDNN.

PyTorch's own are slow on many processors, as those of linear layers are, and it offers oneDNN for them only where
bfloat16 may stand in for float32. A processor without matrix units for bfloat16 computes them in float32 even so; that
is looked into, and where it is not so everything stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

_SHAPES = ((2, 16, 32), (12, 96, 32), (4, 300, 64))
"""Of the matrices that are tried: how many, rows, columns. Other sizes may have other kernels."""
_EXACT = 1e-4
"""Far above what float32 is off on these, and far below what bfloat16 is."""


def _products() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)


class _Setting:
    """PyTorch's setting is that of the process: the first thread that needs it makes it, and the last takes it back."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, "none"

    @contextmanager
    def made(self) -> Iterator[None]:
        products = _products()
        with self._lock:
            if not self._users:
                self._before, products.fp32_precision = products.fp32_precision, "bf16"
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    products.fp32_precision = self._before


_setting = _Setting()


@contextmanager
def by_onednn() -> Iterator[None]:
    """Within the block oneDNN computes float32 products on the CPU, in all threads, where it does so in float32."""
    if not _is_exact():
        yield
        return
    with _setting.made():
        yield


@cache
def _is_exact() -> bool:
    if not hasattr(_products(), "fp32_precision"):
        return False
    generator = torch.Generator().manual_seed(0)
    for shape in _SHAPES:
        a, b = torch.randn(2, *shape, generator=generator)
        with _setting.made():
            product = torch.bmm(a, b.transpose(1, 2))
        if not (product - torch.bmm(a.double(), b.double().transpose(1, 2))).abs().max() <= _EXACT:
            return False
    return True
