"""Number of threads that a model uses on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bsm_core.predictor import Predictor

SMALL = 1 << 16
"""Number of parameters below which a model without text fields uses one thread."""


@contextmanager
def threads_for(predictor: Predictor) -> Iterator[None]:
    """Use one thread inside the block for a small model without text fields; change nothing for other models.

    Such a model computes a window in about a millisecond. A second thread saves a third of that. But the threads wait
    for each other after every layer, so when another process holds a core, a window takes a hundred milliseconds more.
    """
    threads = torch.get_num_threads()
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    if not predictor.preprocessor.pipelines and parameters < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
