"""Inputs of the fusion as those of a game: text fields by their vectors, and features by their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Background:
    """Input that stands for "nothing is known": the row from which contributions are counted.

    Attributes:
        texts: Vector of each text field by column, float32 ``[size]``. Empty for a class that has no such vectors:
            its fields are then empty texts.
        features: Values of the model's inputs, float32 ``[inputs]``.
        tokens: Embedding of each text field's mean token by column, float32 ``[size]``. A field without one has the
            embedding of the padding token instead.
    """

    texts: Mapping[str, Tensor]
    features: Tensor
    tokens: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Background:
        """Return the background on a device."""
        texts, tokens = ({name: each.to(device) for name, each in found.items()} for found in (self.texts, self.tokens))
        return Background(texts, self.features.to(device), tokens)


@dataclass(frozen=True)
class FusionInputs:
    """Inputs whose contributions are counted: first text fields, then features.

    Attributes:
        texts: Columns of the text fields.
        features: Names of the features, each once.
        columns: For each column of the feature matrix, the position of its feature in ``features``; int64
            ``[matrix columns]``.
    """

    texts: tuple[str, ...]
    features: tuple[str, ...]
    columns: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], features: Sequence[tuple[str, int]]) -> FusionInputs:
        """Return the inputs of a model.

        Args:
            texts: Columns of the text fields.
            features: Names of the features in the order of the matrix, each with its number of columns there. A name
                that occurs twice is one input.
        """
        names = tuple(dict.fromkeys(name for name, _ in features))
        columns = [names.index(name) for name, count in features for _ in range(count)]
        return cls(tuple(texts), names, torch.tensor(columns, dtype=torch.int64))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all inputs, in order."""
        return self.texts + self.features

    def masked_texts(self, texts: Mapping[str, Tensor], members: Tensor, background: Background) -> dict[str, Tensor]:
        """Return the vectors of rows in coalitions, float ``[coalitions * rows, size]`` by column.

        Args:
            texts: Vectors of the rows, float ``[rows, size]`` by column.
            members: Whether an input is in a coalition, bool ``[coalitions, inputs]``.
            background: Values of inputs that are not in a coalition.
        """
        return {
            name: torch.where(members[:, place, None, None], texts[name], background.texts[name]).flatten(0, 1)
            for place, name in enumerate(self.texts)
        }

    def masked_features(self, features: Tensor, members: Tensor, background: Background) -> Tensor:
        """Return the feature matrix of rows in coalitions, float32 ``[coalitions * rows, matrix columns]``.

        Args:
            features: Feature matrix of the rows, float32 ``[rows, matrix columns]``.
            members, background: See :meth:`masked_texts`.
        """
        if not self.features:
            return features.new_empty(len(members) * len(features), features.shape[1])
        kept = members[:, len(self.texts) + self.columns.to(members.device)]
        return torch.where(kept[:, None], features, background.features).flatten(0, 1)


def log_odds(logits: Tensor, temperature: float) -> Tensor:
    """Return what contributions add up to, float ``[rows, outputs]``.

    Of two classes, the one output is the log-odds of class 1, ``log(p1 / p0)``. Of more, there is an output for each
    class: its logit. Both are divided by the calibration temperature, as scores are.
    """
    logits = logits / temperature
    return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits
