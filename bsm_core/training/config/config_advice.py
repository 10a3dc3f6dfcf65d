"""Advice of errors in a training job: keys of its config, in the place of flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bsm_core.errors import BSMError
from bsm_core.scoring.settings import sources
from bsm_core.training.config.training_config import TrainingConfig


def set_config_keys(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to set keys of a training config; see :class:`~bsm_core.errors.BSMError`."""
    keys = {*TrainingConfig.model_fields, *(name for name, source in sources().items() if source.in_artifact)}
    known = (" and ".join(f"{name} to {value}" for name, value in each.items()) for each in settings if keys >= {*each})
    advice = " or ".join(known)
    return f"set {advice} in the config" if advice else ""


@contextmanager
def naming_config_keys() -> Iterator[None]:
    """Let errors that advise flags of ``bsm run`` name keys of the training config instead."""
    try:
        yield
    except BSMError as error:
        error.advice = set_config_keys
        raise
