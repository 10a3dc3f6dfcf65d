"""Model of a config without weights: names and shapes of its parameters, and limits of its encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bsm_core.artifact.untrusted.state_dicts import check_dtypes, fit_weights
from bsm_core.backends.choose import encoders_of
from bsm_core.errors import WeightsMismatchError
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry
from bsm_core.predictor.model_building import building, tied_names
from bsm_core.training.importing.original_names import with_names_of_transformers


class ModelProbe:
    """Model of an artifact's config, built without memory for its weights.

    Args:
        values: Config keys of the artifact, with those that the artifact provides, such as ``text_encoder``.
        registry: Registry in which the name of the model class is looked up.
        where: Name of the config in errors.

    Raises:
        UnknownComponentError: No plugin provides the model class.
        ConfigError: The class cannot be built from the config.
    """

    def __init__(self, values: Mapping[str, Any], registry: Registry, where: str) -> None:
        name = values["model_class"]
        model_class = registry.load(registry.resolve("model_class", name, where="config.model_class"), ModelBase)
        with building(name, where, fix="correct the key that the message names"), torch.device("meta"):
            self._model = model_class.from_config(values, where=where)

    @property
    def longest(self) -> int | None:
        """Largest number of tokens of a chunk that every text encoder takes; None if there is no limit."""
        limits = [encoder.longest for encoder in encoders_of(self._model).values() if encoder.longest is not None]
        return min(limits, default=None)

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids that every text encoder takes; None without a text encoder."""
        return min((encoder.vocabulary for encoder in encoders_of(self._model).values()), default=None)

    def fit(self, weights: Mapping[str, Tensor], *, surplus: bool = False) -> dict[str, Tensor]:
        """Return weights under the names of the model.

        Args:
            weights: A state dict; see :func:`bsm_core.artifact.untrusted.state_dicts.fit_weights`.
            surplus: Whether weights that the model lacks are passed over with a warning.

        Raises:
            WeightsMismatchError: Weights are missing, unexpected or quantized, or shapes differ; the error lists all of
                them.
        """
        model, state = self._model, self._model.state_dict()
        expected = {name: value.shape for name, value in state.items()}
        fitting = fit_weights(weights, expected, model.optional_state, tied_names(model), surplus=surplus)
        check_dtypes(fitting, state)
        return fitting

    def fit_pretrained(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the transformers model inside this model, under the names of this model.

        ``save_pretrained`` writes some types under the names of their original code, with several weights in one
        tensor. These are converted.

        Args:
            weights: A state dict that ``save_pretrained`` wrote.

        Raises:
            WeightsMismatchError: As :meth:`fit`.
        """
        from transformers import PreTrainedModel

        inner = [(n, part) for n, part in self._model.named_modules() if isinstance(part, PreTrainedModel)]
        if not inner:
            return self.fit(weights, surplus=True)
        name, part = inner[0]
        try:
            return self.fit({f"{name}.{key}": value for key, value in weights.items()}, surplus=True)
        except WeightsMismatchError:
            converted = with_names_of_transformers(part, weights)
            if converted is None:
                raise
        return self.fit({f"{name}.{key}": value for key, value in converted.items()}, surplus=True)
