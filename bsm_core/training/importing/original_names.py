"""Weights under the names of a model's original code, which transformers writes for some types."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("bsm")
_MOST_TIMES = 2
"""Largest allowed ratio of the parameters of the model to the numbers in its file: a config with wrong sizes could
otherwise fill the memory."""


def with_names_of_transformers(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return weights as transformers converts them when it loads them, in float32.

    Args:
        model: The model, which may be on the meta device.
        weights: A state dict of floats. The names need not be those of the model.

    Returns:
        The weights that the model has, and those that it has no place for. A weight of another shape has no content: it
        is on the meta device. None if the weights cannot be those of the model.
    """
    needed = sum(value.numel() for value in model.parameters())
    held = sum(value.numel() for value in weights.values())
    if needed > _MOST_TIMES * held or any(value.dtype.itemsize == 1 for value in weights.values()):
        return None
    try:
        with _quiet():
            load: Any = type(model).from_pretrained
            loaded, info = load(
                None,
                config=model.config,
                state_dict={**weights},
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (RuntimeError, ValueError) as error:  # such as a weight that cannot be split as the model needs it
        log.debug("transformers cannot convert these weights: %s", error)
        return None
    others = {name: torch.empty(shape, device="meta") for name, shape, _ in info["mismatched_keys"]}
    lacking = {*info["missing_keys"], *others}
    found = {name: value for name, value in loaded.state_dict().items() if name not in lacking}
    surplus = {name: weights.get(name, torch.empty(0)) for name in info["unexpected_keys"]}
    return {**surplus, **found, **others}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of transformers about weights: the fitting of the weights tells the same afterwards."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
