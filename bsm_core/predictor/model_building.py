"""Building a model from the config and the weights of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bsm_core.artifact import Artifact
from bsm_core.artifact.files import exported
from bsm_core.artifact.untrusted.state_dicts import check_dtypes
from bsm_core.backends.choose import encoders_of
from bsm_core.errors import BSMError, ConfigError
from bsm_core.models.base import ModelBase
from bsm_core.models.bounded_allocations import BoundedAllocations
from bsm_core.models.deferred_init import deferred_initialization

_FREE_VALUES = 1 << 26
"""Values that a model may have beyond twice the artifact's weights, such as buffers that are not saved."""


def build_model(artifact: Artifact, model_class: type[ModelBase], batch_size: int | None) -> ModelBase:
    """Return the model of an artifact, with its weights, in evaluation mode.

    Args:
        artifact: The artifact.
        model_class: Class of the model.
        batch_size: Number that replaces the one in the config; None: that of the config.

    Raises:
        BSMError: The config or the weights do not fit the class.
    """
    values = artifact.model_config(wants=model_class.Config.model_fields)
    if batch_size is not None:
        values["batch_size"] = batch_size
    where = "the artifact's config and text_encoder/config.json"
    fix = "correct the key that the message names, and pack the artifact again"
    with deferred_initialization():
        most = 2 * sum(value.numel() for value in artifact.weights.values()) + _FREE_VALUES
        with building(artifact.config.model_class, where, fix), BoundedAllocations(most):
            model = model_class.from_config(values, where=where)
        state = model.state_dict()
        expected = {name: value.shape for name, value in state.items()}
        weights = artifact.state_dict_for(expected, model.optional_state, tied_names(model))
        check_dtypes(weights, state)
        model.load_state_dict(weights, strict=False)  # not strict: state_dict_for has reported all differences at once
    files = exported(artifact.folder)
    for name, encoder in encoders_of(model).items():
        encoder.exported = files.get(name)
    return model.eval()


def tied_names(model: ModelBase) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


@contextmanager
def building(model_class: str, where: str, fix: str) -> Iterator[None]:
    """Turn what a model class raises while it is built into a :class:`ConfigError`.

    Args:
        model_class: Name of the model class.
        where: The config from which it is built, for the error.
        fix: Advice for the error.
    """
    try:
        yield
    except BSMError:
        raise
    except Exception as error:
        what = f"model class {model_class!r} cannot be built: {type(error).__name__}: {error}"
        raise ConfigError(what, where=where, fix=fix) from error
