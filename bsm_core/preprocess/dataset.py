"""``BSMDataset``: the dataset of the inference contract, for scripts that hold a whole table in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.models.batch import Batch
from bsm_core.preprocess.features import Column, Imputer, RiskTable
from bsm_core.preprocess.findings import Findings
from bsm_core.preprocess.pipeline import Pipeline
from bsm_core.preprocess.preprocessor import features_of, make_batch
from bsm_core.runtime.profile import Times


class BSMDataset:
    """Rows of a table, and the processors that turn them into one batch.

    Args:
        columns: Columns of the table by name: Arrow arrays, or sequences of Python objects.
        rows: Number of rows.
        config: The artifact's config.
    """

    def __init__(self, columns: Mapping[str, Column], rows: int, config: ArtifactConfig) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.config = config
        self._pipelines: dict[str, Pipeline] = {}
        self._imputers: dict[str, Imputer] = {}
        self._risk_tables: dict[str, RiskTable] = {}

    def __len__(self) -> int:
        return self.rows

    def add_pipeline(self, name: str, processor: Pipeline | Imputer | RiskTable) -> None:
        """Register the processor of a column. A risk table of a text column is ignored."""
        if isinstance(processor, Pipeline):
            self._pipelines[name] = processor
        elif isinstance(processor, Imputer):
            self._imputers[name] = processor
        else:
            self._risk_tables[name] = processor

    def fill_missing_value(self, label_name: str | None = None, column_cat_name: Sequence[str] = ()) -> None:
        """Replace missing categories by empty text.

        Args:
            label_name: Name of the label column, which stays unchanged.
            column_cat_name: Names of the categorical columns; columns that the table does not have are ignored.
        """
        for name in column_cat_name:
            column = self.columns.get(name)
            if name == label_name or not isinstance(column, pa.Array | pa.ChunkedArray):
                continue
            if column.type in (pa.string(), pa.large_string()):
                self.columns[name] = column.fill_null("")

    def to_batch(self, times: Times | None = None) -> tuple[Batch, Findings]:
        """Return the batch of all rows, and their findings.

        Args:
            times: Object to which the time of each step is added.
        """
        features = features_of(self.config, self._imputers, self._risk_tables)
        return make_batch(self.columns, self.rows, self._pipelines, features, times)
