"""Model construction without initial weights that an artifact's weights replace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch


def deferred_initialization() -> AbstractContextManager[None]:
    """Defer the initial weights of a model until they are read.

    Building an encoder spends most of its time on random numbers, which loading a state dict then overwrites. In this
    context, an operation that fills a tensor runs before the first operation that reads the tensor or a view of it, or
    at the end of the context. It does not run if the whole tensor is overwritten before.

    A model class that computes something from its initial weights gets the same results, as long as it uses operations
    of PyTorch in this thread. NumPy arrays that share memory with a tensor are not observed, and random numbers are
    drawn in another order.

    Dispatch modes are a private API of PyTorch. If they do not work as expected, weights are initialized as usual.
    """
    return _deferral()()


@cache
def _deferral() -> Callable[[], AbstractContextManager[None]]:
    """Return the context manager that defers fills; one that does nothing if a trial on this PyTorch fails."""
    try:
        from bsm_core.models.deferred_fills import deferred_fills

        with deferred_fills():
            read, overwritten, never_read = (torch.empty(2).fill_(value) for value in (1.0, 2.0, 3.0))
            total = read.sum()
            overwritten.copy_(torch.zeros(2))
        numbers = [*read.tolist(), *overwritten.tolist(), *never_read.tolist(), total.item()]
    except (ImportError, AttributeError, RuntimeError, TypeError):
        return nullcontext
    return deferred_fills if numbers == [1.0, 1.0, 0.0, 0.0, 3.0, 3.0, 2.0] else nullcontext
