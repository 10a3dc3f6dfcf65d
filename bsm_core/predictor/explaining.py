"""Reasons for scores in the Python API: the part of a predictor that explains rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from bsm_core.artifact import Artifact
from bsm_core.artifact.features.explanation_background import ExplanationBackground
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch
from bsm_core.models.micro_batches import settle_threads
from bsm_core.predictor.api_arguments import naming_arguments
from bsm_core.predictor.issue_teller import IssueTeller, OnIssue
from bsm_core.predictor.reason_table import reason_table
from bsm_core.predictor.table_reasons import TableReasons
from bsm_core.preprocess.columns import TableLike, table_columns
from bsm_core.preprocess.dataset import Preprocessor

if TYPE_CHECKING:
    import pandas as pd


class Explaining:
    """Base class of :class:`bsm_core.Predictor`, with the methods that explain scores.

    Attributes:
        artifact: The artifact, without its weights; None if the predictor was made without one.
        model: The model, in evaluation mode.
        preprocessor: What turns rows into batches.
    """

    artifact: Artifact | None
    model: ModelBase
    preprocessor: Preprocessor

    @cached_property
    def _reasons(self) -> TableReasons:
        stored = self.artifact.explanation_background if self.artifact else None
        return TableReasons(self.model, self.preprocessor, stored)

    def make_background(self, batch: Batch) -> ExplanationBackground:
        """Return the mean row of a batch, from which reasons count; see :mod:`bsm_core.explain.background`."""
        return self._reasons.make_background(batch)

    def explain(self, data: TableLike, on_issue: OnIssue | None = None, *, tokens: bool = True) -> pd.DataFrame:
        """Return what each feature, text field and word adds to the scores of rows.

        Contributions count from the background: the mean row of training that the artifact has, else a row of missing
        values and empty texts. Those of fields and features are Shapley values (Lundberg and Lee, 2017,
        arXiv:1705.07874), those of words integrated gradients (Sundararajan et al., 2017, arXiv:1703.01365).

        Args:
            data, on_issue: See :meth:`predict`.
            tokens: Whether to explain the words of text fields, which takes far longer than the rest.

        Returns:
            A frame with a line for each feature, each word, and what no word of a text field explains: ``row``, the
            position of the row in ``data``; ``class``, the class of :attr:`classes_` whose score is explained, of two
            classes the second alone; ``field``, the column; ``token``, the word, with its ``start`` and ``end`` in the
            cell, in characters; ``feature``, the cell of a feature as text; ``contribution`` and ``baseline``, float64.
            The contributions of a row and class, and the baseline, add up to the log-odds of the class; with more than
            two classes, to its logit. Both are divided by ``calibration_temperature``.

        Raises:
            CorruptArtifactError: The background of the artifact does not fit its model.
            BSMError: See :meth:`predict`.
        """
        settle_threads()
        issues = IssueTeller(on_issue)
        columns, index = table_columns(data, self.preprocessor.wanted)
        batch, findings = self.preprocessor.batch(columns, len(index))
        issues.add(findings, len(index))
        issues.end()
        with naming_arguments():
            found = self._reasons.of(columns, batch, range(len(index)), tokens=tokens)
        classes = [str(name) for name in self.preprocessor.config.classes]
        shown = classes[1:] if len(classes) == 2 else classes
        frame: pd.DataFrame = reason_table(pa.array(range(len(index)), pa.int64()), "row", found, shown).to_pandas()
        return frame
