"""Reasons for the scores of a table's rows: contributions of a batch, joined with the cells that they come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

import pyarrow as pa
import torch

from bsm_core.artifact.features.explanation_background import ExplanationBackground
from bsm_core.explain.background import make_background
from bsm_core.explain.explainer import Explainer
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.predictor.reason_table import RowReasons, Word, words_of
from bsm_core.preprocess.cell_reasons import text_of
from bsm_core.preprocess.cells import Column, values_at
from bsm_core.preprocess.columns import table_columns, text_values
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.pipeline import Pipeline

log = logging.getLogger("bsm")

_NO_WORD = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")


def no_words(pipeline: Pipeline) -> frozenset[int]:
    """Return the token ids of a text field that stand for no text; the unknown token does stand for some."""
    tokenizer = pipeline.context.tokenizer
    ids = (getattr(tokenizer, name, None) for name in _NO_WORD)
    return frozenset(each for each in ids if each is not None)


class TableReasons:
    """Reasons for scores of rows of tables.

    Args:
        model: The model, in evaluation mode, on its device.
        preprocessor: What turns rows into batches.
        background: The mean row of training; None: a row of missing values.
    """

    def __init__(
        self, model: ModelBase, preprocessor: Preprocessor, background: ExplanationBackground | None = None
    ) -> None:
        self._model = model
        self._preprocessor = preprocessor
        self._stored = background
        self._told: set[str] = set()

    @cached_property
    def explainer(self) -> Explainer:
        """Explainer of the model.

        Raises:
            CorruptArtifactError: The background does not fit the model.
        """
        missing = pa.table({name: pa.nulls(1) for name in self._preprocessor.wanted})
        columns, _ = table_columns(missing, self._preprocessor.wanted)
        empty, _ = self._preprocessor.batch(columns, 1)
        return Explainer(self._model, self._preprocessor.features.input_counts, empty, self._stored)

    def of(self, columns: Mapping[str, Column], batch: Batch, rows: Sequence[int], *, tokens: bool) -> list[RowReasons]:
        """Return the reasons for rows.

        Args:
            columns: The cells, by column.
            batch: The batch of all rows of ``columns``.
            rows: Positions of the rows to explain.
            tokens: Whether to explain the words of the text fields.
        """
        part = batch.select(torch.tensor(rows, dtype=torch.int64))
        found = self.explainer.contributions(part)
        texts, features = self.explainer.inputs.texts, self.explainer.inputs.features
        words = {column: self._words(columns[column], part, column, rows) for column in texts} if tokens else {}
        cells = {name: [text_of(value) for value in values_at(columns[name], rows)] for name in features}
        return [
            RowReasons(
                fields=dict(zip(texts, values, strict=False)),
                features=dict(zip(features, values[len(texts) :], strict=True)),
                baseline=found.baseline,
                words={column: each[i] for column, each in words.items()},
                cells={name: each[i] for name, each in cells.items()},
            )
            for i, values in enumerate(found.values)
        ]

    def _words(self, column: Column, part: Batch, name: str, rows: Sequence[int]) -> list[list[Word]]:
        pipeline = self._preprocessor.pipelines[name]
        passed = no_words(pipeline)
        values = self.explainer.tokens(part, name, passed)
        if values is None:
            self._tell(f"{name}: the words are not explained, because the model class does not look up their tokens")
            return [[] for _ in rows]
        all_texts, _ = text_values(column, self._preprocessor.max_cell_mb)
        found = []
        for row, own in zip(rows, values, strict=True):
            chunks = [chunk for chunk in pipeline.trace(all_texts[row]) if chunk.ids]
            for step in {chunk.lost_by for chunk in chunks} - {None}:
                self._tell(f"{name}: text step {step!r} does not say where words stood, so they have no start and end")
            found.append(words_of(all_texts[row], chunks, own.chunks, passed))
        return found

    def _tell(self, what: str) -> None:
        if what not in self._told:
            log.warning(what)
            self._told.add(what)

    def make_background(self, batch: Batch) -> ExplanationBackground:
        """Return the background of rows; see :func:`bsm_core.explain.background.make_background`."""
        fixed = {name: no_words(pipeline) for name, pipeline in self._preprocessor.pipelines.items()}
        return make_background(self._model, batch, fixed)
