"""How many threads the model gets on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bsm_core.predictor import Predictor

SMALL = 1 << 16
"""Parameters below which a model of features alone is given one thread."""


@contextmanager
def threads_for(predictor: Predictor) -> Iterator[None]:
    """One thread for a small model of features alone, and all that there were for every other.

    Such a model takes a millisecond for a window. Two threads save a third of that, and lose a hundred where another
    process holds a core, because each waits for the other after every layer.
    """
    threads = torch.get_num_threads()
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    if not predictor.preprocessor.pipelines and parameters < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
