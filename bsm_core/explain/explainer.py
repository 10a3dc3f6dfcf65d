"""Contributions of the inputs of a model, and of the tokens of its text fields, to the log-odds of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bsm_core.artifact.features.explanation_background import ExplanationBackground
from bsm_core.explain.background import read_background
from bsm_core.explain.fusion_game import FusionGame, Game, MaskingGame
from bsm_core.explain.inputs import Background, FusionInputs
from bsm_core.explain.token_gradients import FieldValue, TokenValues, token_values
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch

_TOKENS_AT_ONCE = 4096
"""Number of tokens whose gradients are computed at once, unless one row has more."""


@dataclass(frozen=True)
class Contributions:
    """Contribution of each input to the log-odds of rows.

    For each row and output, ``baseline`` and the values of all inputs add up to ``log_odds``.

    Attributes:
        names: Names of the inputs: the text fields, then the features.
        values: Shapley values, float64 ``[rows, inputs, outputs]``.
        baseline: Log-odds of the background, float64 ``[outputs]``.
        log_odds: Log-odds of the rows, float64 ``[rows, outputs]``; see :func:`bsm_core.explain.inputs.log_odds`.
    """

    names: tuple[str, ...]
    values: Tensor
    baseline: Tensor
    log_odds: Tensor


class Explainer:
    """A model and the background from which contributions are counted.

    Args:
        model: The model, in evaluation mode, on its device.
        features: Names of the features in the order of the feature matrix, each with its number of columns there.
        empty: Batch of one row without any value: its texts are empty, its features are missing.
        background: The artifact's background. None: the vectors and the features of ``empty``.

    Raises:
        CorruptArtifactError: The background does not fit the model.
    """

    def __init__(
        self,
        model: ModelBase,
        features: Sequence[tuple[str, int]],
        empty: Batch,
        background: ExplanationBackground | None = None,
    ) -> None:
        self.model = model
        whole = bool(model.why_no_embeddings())
        with torch.no_grad():
            texts = {} if whole else model.encode_texts(empty.to(model.device))
        # A class whose ``forward`` is its own may read any field of the batch.
        inputs = FusionInputs.of([*empty.texts] if whole else [*texts], features)
        of_empty = Background({name: vectors[0] for name, vectors in texts.items()}, empty.features[0])
        start = read_background(background, of_empty)
        self.inputs = inputs
        self._game: Game = MaskingGame(model, inputs, start, empty) if whole else FusionGame(model, inputs, start)

    def contributions(self, batch: Batch) -> Contributions:
        """Return the contribution of each input to each row of a batch."""
        with torch.inference_mode():
            values = self._game.values(batch.to(self.model.device)).cpu()
        shapley = self._game.coalitions.shapley_values(values).movedim(0, 1)
        baseline = values[0, 0] if batch.rows else values.new_zeros(values.shape[2:])
        return Contributions(self.inputs.names, shapley, baseline, values[-1])

    def tokens(
        self, batch: Batch, column: str, fixed: Collection[int] = (), steps: int | None = None
    ) -> list[TokenValues] | None:
        """Return what the tokens of a text field add to its contribution, for each row of a batch.

        Args:
            batch: The rows.
            column: The text field.
            fixed: Token ids that stand for no text; their values are 0.
            steps: Number of steps of the integration. None: as many as an error of 1 % needs.

        Returns:
            None if the model does not compute the field with an embedding layer, or needs more than its vector.
        """
        if not self._game.has_field_values(column):
            return None
        rows, start = batch.texts[column].to_rows(), self._game.background.tokens.get(column)
        found: dict[int, TokenValues] = {}
        for group in _groups(rows):
            part = batch.select(torch.tensor(group)).to(self.model.device)

            def value_of(left: Sequence[int], part: Batch = part) -> FieldValue:
                return self._game.field_value(part.select(torch.tensor(left)), column)

            with torch.enable_grad():
                values = token_values(self.model, value_of, [rows[row] for row in group], fixed, start, steps)
            if values is None:
                return None
            found |= zip(group, values, strict=True)
        return [found[row] for row in range(batch.rows)]


def _groups(rows: Sequence[Sequence[Sequence[int]]]) -> Iterator[list[int]]:
    """Yield the positions of rows that are computed together; no two of them have an equal chunk."""
    waiting = sorted(range(len(rows)), key=lambda row: sum(map(len, rows[row])), reverse=True)
    while waiting:
        group: list[int] = []
        later: list[int] = []
        chunks: set[tuple[int, ...]] = set()
        tokens = 0
        for row in waiting:
            own, size = {*map(tuple, rows[row])}, sum(map(len, rows[row]))
            if group and (not chunks.isdisjoint(own) or tokens + size > _TOKENS_AT_ONCE):
                later.append(row)
                continue
            group.append(row)
            chunks |= own
            tokens += size
        yield group
        waiting = later
