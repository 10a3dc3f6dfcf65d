"""Arguments of the Python API: the device, and errors that advise them in the place of flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from bsm_core.errors import BSMError, UsageError

_ARGUMENTS = ("device", "on_bad_row")
"""Arguments of :meth:`bsm_core.Predictor.from_artifact` that errors advise."""


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Let errors that advise flags of ``bsm run`` name the arguments of ``Predictor.from_artifact`` instead."""
    try:
        yield
    except BSMError as error:
        error.advice = _pass_arguments
        raise


def _pass_arguments(settings: Sequence[Mapping[str, str]]) -> str:
    known = [each for each in settings if each.keys() <= {*_ARGUMENTS}]
    given = (", ".join(f'{name}="{value}"' for name, value in each.items()) for each in known)
    return f"pass {' or '.join(given)} to Predictor.from_artifact" if known else ""


def device_of(name: str) -> str:
    """Return the torch device for a name.

    Raises:
        UsageError: There is no such device.
    """
    gpus = torch.cuda.device_count()
    there = ["auto", "cpu", *(["cuda", *(f"cuda:{i}" for i in range(gpus))] if gpus else [])]
    if name not in there:
        raise UsageError(f"there is no device {name!r}", fix=f"use one of {', '.join(map(repr, there))}")
    return ("cuda" if gpus else "cpu") if name == "auto" else name
