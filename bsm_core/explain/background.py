"""Background of reasons: made from rows, and taken from an artifact."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from bsm_core.artifact.features.explanation_background import ExplanationBackground, misfit
from bsm_core.explain.inputs import Background
from bsm_core.explain.token_gradients import mean_embedding
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch

MOST_ROWS = 4_096
"""Number of rows, in equal distances, whose texts are encoded for a background."""


def make_background(model: ModelBase, batch: Batch, fixed: Mapping[str, Collection[int]]) -> ExplanationBackground:
    """Return the mean row of rows: all of them for features, at most :data:`MOST_ROWS` for texts.

    Args:
        model: The model, in evaluation mode, on its device.
        batch: The rows, at least one.
        fixed: Token ids of each text field that stand for no text, by column.
    """
    some = torch.unique(torch.linspace(0, batch.rows - 1, min(batch.rows, MOST_ROWS)).long())
    part = batch.select(some).to(model.device)
    texts: dict[str, Tensor] = {}
    if not model.why_no_embeddings():
        with torch.inference_mode():
            texts = model.encode_texts(part)
    means = {name: vectors.double().mean(0).tolist() for name, vectors in texts.items()}
    found = {name: _mean_token(model, part, name, ids) for name, ids in fixed.items()}
    tokens = {name: vector.tolist() for name, vector in found.items() if vector is not None}
    return ExplanationBackground(features=batch.features.double().mean(0).tolist(), texts=means, tokens=tokens)


def _mean_token(model: ModelBase, batch: Batch, column: str, fixed: Collection[int]) -> Tensor | None:
    def value(chunks: TextBatch) -> Tensor:
        nothing = {name: TextBatch.from_rows([[] for _ in range(batch.rows)]) for name in batch.texts}
        part = Batch(batch.rows, {**nothing, column: chunks}, batch.features)
        if model.why_no_embeddings():
            logits: Tensor = model(part)
            return logits
        return model.encode_texts(part)[column]

    with torch.enable_grad():
        return mean_embedding(model, value, batch.texts[column].to_rows(), fixed)


def read_background(stored: ExplanationBackground | None, empty: Background) -> Background:
    """Return the background of an artifact, or that of a row without any value.

    Args:
        stored: What the artifact has.
        empty: The vectors of empty texts, and the features of missing values.

    Raises:
        CorruptArtifactError: The sizes of what the artifact has are not those of the model.
    """
    if stored is None:
        return empty
    _check_size("features", len(stored.features), len(empty.features))
    for name, vector in empty.texts.items():
        _check_size(f"texts.{name}", len(stored.texts.get(name, [])), len(vector))
    texts = {name: torch.tensor(stored.texts[name]) for name in empty.texts}
    tokens = {name: torch.tensor(vector) for name, vector in stored.tokens.items()}
    return Background(texts, torch.tensor(stored.features), tokens)


def _check_size(key: str, found: int, expected: int) -> None:
    if found != expected:
        raise misfit(f"{key} has {found} numbers, the model {expected}")
