"""Batched float32 matrix products with oneDNN, which is faster than PyTorch's own code on many processors.

PyTorch calls oneDNN for them only if ``torch.backends.mkldnn.matmul.fp32_precision`` is ``"bf16"``, which allows
bfloat16 in place of float32. Processors without matrix units for bfloat16 still compute in float32. A trial checks
this; if its products are not exact, the setting is not changed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch

_SHAPES = ((2, 16, 32), (12, 96, 32), (4, 300, 64))
"""Batch, rows and columns of the trial's matrices; oneDNN may choose a different kernel for each size."""
_EXACT = 1e-4
"""Largest error of an exact product: far above the errors of float32 in the trial, far below those of bfloat16."""


def _matmul_settings() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)


class _Setting:
    """PyTorch's setting for oneDNN, which applies to the whole process.

    The first thread that needs the setting changes it, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, "none"

    @contextmanager
    def changed(self) -> Iterator[None]:
        settings = _matmul_settings()
        with self._lock:
            if not self._users:
                self._before, settings.fp32_precision = settings.fp32_precision, "bf16"
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    settings.fp32_precision = self._before


_setting = _Setting()


def by_onednn() -> AbstractContextManager[None]:
    """Compute float32 products on the CPU with oneDNN, in all threads, if its products are exact here."""
    return _setting.changed() if _is_exact() else nullcontext()


@cache
def _is_exact() -> bool:
    if not hasattr(_matmul_settings(), "fp32_precision"):
        return False
    generator = torch.Generator().manual_seed(0)
    for shape in _SHAPES:
        a, b = torch.randn(2, *shape, generator=generator)
        with _setting.changed():
            product = torch.bmm(a, b.transpose(1, 2))
        if not (product - torch.bmm(a.double(), b.double().transpose(1, 2))).abs().max() <= _EXACT:
            return False
    return True
