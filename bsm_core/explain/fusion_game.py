"""Values of coalitions: the log-odds of a row of which only some inputs are known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bsm_core.explain.coalitions import Coalitions, coalitions
from bsm_core.explain.inputs import Background, FusionInputs, log_odds
from bsm_core.explain.token_gradients import FieldValue
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch

_MOST_NUMBERS = 1 << 22
"""Numbers that the fusion may read at once, of all coalitions and rows."""


class Game(ABC):
    """Game whose players are the inputs of a model.

    Args:
        model: The model, in evaluation mode, on its device.
        inputs: Its inputs.
        background: Values of the inputs that a coalition lacks.
    """

    def __init__(self, model: ModelBase, inputs: FusionInputs, background: Background) -> None:
        self.model = model
        self.inputs = inputs
        self.background = background.to(model.device)
        self.coalitions: Coalitions = coalitions(len(inputs.names))

    @abstractmethod
    def values(self, batch: Batch) -> Tensor:
        """Return the values of all coalitions, float64 ``[coalitions, rows, outputs]``."""

    def has_field_values(self, column: str) -> bool:
        """Return whether :meth:`field_value` can be called for a text field."""
        return column in self.inputs.texts

    @abstractmethod
    def field_value(self, batch: Batch, column: str) -> FieldValue:
        """Return a function of a text field's chunks: what the field adds to the log-odds, up to a constant.

        Args:
            batch: The rows; all but the field stays as it is.
            column: The field.

        Returns:
            ``chunks -> float64 [rows, outputs]``, which has gradients.
        """

    def _odds(self, logits: Tensor) -> Tensor:
        return log_odds(logits, self.model.config.calibration_temperature).double()


class FusionGame(Game):
    """Game of a model class that has the methods ``encode_texts``, ``fuse_rows`` and ``classify_rows``.

    The texts are encoded once. What a coalition lacks has the vector, or the features, of the background.
    """

    def values(self, batch: Batch) -> Tensor:
        """Return the values of all coalitions, float64 ``[coalitions, rows, outputs]``."""
        return self.values_of(self.model.encode_texts(batch), batch.features, self.coalitions.members)

    def field_value(self, batch: Batch, column: str) -> FieldValue:
        """Return the function of :meth:`Game.field_value`: the Shapley value of the field."""
        place = self.inputs.texts.index(column)
        having = self.coalitions.members[:, place]
        weights = self.coalitions.weights[place, having].to(batch.features.device)
        nothing = TextBatch.from_rows([[] for _ in range(batch.rows)])
        without = {name: text if name == column else nothing for name, text in batch.texts.items()}
        with torch.no_grad():
            texts = self.model.encode_texts(batch)

        def value(chunks: TextBatch) -> Tensor:
            own = self.model.encode_texts(replace(batch, texts={**without, column: chunks}))[column]
            odds = self.values_of({**texts, column: own}, batch.features, self.coalitions.members[having])
            total: Tensor = torch.tensordot(weights, odds, dims=1)
            return total

        return value

    def values_of(self, texts: Mapping[str, Tensor], features: Tensor, members: Tensor) -> Tensor:
        """Return the values of coalitions, float64 ``[coalitions, rows, outputs]``.

        Args:
            texts: Vectors of the text fields, float ``[rows, size]`` by column.
            features: Feature matrix, float32 ``[rows, matrix columns]``.
            members: Whether an input is in a coalition, bool ``[coalitions, inputs]``.
        """
        rows = len(features)
        size = sum(vectors.shape[1] for vectors in texts.values()) + features.shape[1]
        at_once = max(1, _MOST_NUMBERS // max(1, rows * size))
        parts = torch.split(members.to(features.device), at_once)
        found = torch.cat([self._some(texts, features, part) for part in parts])
        return found.reshape(len(members), rows, found.shape[1])

    def _some(self, texts: Mapping[str, Tensor], features: Tensor, members: Tensor) -> Tensor:
        vectors = {**texts, **self.inputs.masked_texts(texts, members, self.background)}
        fused = self.model.fuse_rows(vectors, self.inputs.masked_features(features, members, self.background))
        return self._odds(self.model.classify_rows(fused))


class MaskingGame(Game):
    """Game of a model class with a method ``forward`` of its own, which scores the rows for each coalition again.

    A text field that a coalition lacks is an empty text.

    Args:
        model, inputs, background: See :class:`Game`.
        empty: Batch of one row whose texts are empty.
    """

    def __init__(self, model: ModelBase, inputs: FusionInputs, background: Background, empty: Batch) -> None:
        super().__init__(model, inputs, background)
        self._empty = empty

    def values(self, batch: Batch) -> Tensor:
        """Return the values of all coalitions, float64 ``[coalitions, rows, outputs]``."""
        return torch.stack([self._odds(self.model(each)) for each in self._masked(batch)])

    def field_value(self, batch: Batch, column: str) -> FieldValue:
        """Return the log-odds as a function of the field, the only input."""
        return lambda chunks: self._odds(self.model(replace(batch, texts={column: chunks})))

    def has_field_values(self, column: str) -> bool:
        """Return whether the field is the only input; otherwise its value would need many calls of ``forward``."""
        return self.inputs.names == (column,)

    def _masked(self, batch: Batch) -> Iterator[Batch]:
        first = torch.zeros(batch.rows, dtype=torch.int64)
        without = {name: text.select(first).to(self.model.device) for name, text in self._empty.texts.items()}
        for members in torch.split(self.coalitions.members, 1):
            known = dict(zip(self.inputs.names, members[0].tolist(), strict=True))
            texts: dict[str, TextBatch] = {
                name: text if known.get(name, True) else without[name] for name, text in batch.texts.items()
            }
            kept = self.inputs.masked_features(batch.features, members.to(batch.features.device), self.background)
            yield replace(batch, texts=texts, features=kept)
