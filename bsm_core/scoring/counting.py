"""From what a predictor has to what the statistics of a run are counted from: NumPy arrays and names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from bsm_core.artifact.features.feature_tables import MISSING_NUMBER
from bsm_core.models.batch import Batch
from bsm_core.predictor import Predictor
from bsm_core.preprocess.dataset import WindowInfo
from bsm_core.report.binning import Binning, Scored, TextArrays, TextLimits
from bsm_core.report.statistics import FloatArray
from bsm_core.tables.cell_values import value_text


def binning_of(predictor: Predictor) -> Binning:
    """Return what is counted for the model of a predictor."""
    preprocessor, artifact = predictor.preprocessor, predictor.artifact
    steps = {column: [step.used for step in pipeline.steps] for column, pipeline in preprocessor.pipelines.items()}
    imputers = {} if preprocessor.config.compat == "original" else preprocessor.imputers
    names = preprocessor.config.tab_field_list
    return Binning.of(
        names,
        preprocessor.risk_tables,
        {name: imputers[name].value if name in imputers else MISSING_NUMBER for name in names},
        {column: TextLimits.of(used) for column, used in steps.items()},
        artifact.training_distributions if artifact else None,
    )


def probabilities_of(batch: Batch, probabilities: Tensor) -> FloatArray:
    """Return the probabilities of a window, float64 ``[rows, classes]``, with NaN in the rows that failed."""
    found: FloatArray = probabilities.cpu().numpy()
    if batch.failed:
        found = found.copy()
        found[[*batch.failed]] = np.nan
    return found


def scored(batch: Batch, probabilities: Tensor, counts: Mapping[str, float]) -> Scored:
    """Return the rows of a window after they were scored.

    Args:
        batch: The window's batch.
        probabilities: Float64 ``[rows, classes]``.
        counts: Counts of the window's findings.
    """
    info: WindowInfo = batch.window
    categories = info.findings.categories
    return Scored(
        start=info.start,
        probabilities=probabilities_of(batch, probabilities),
        texts=text_arrays(batch),
        features=batch.table_values.numpy(),
        counts=counts,
        known={name: each.known for name, each in categories.items()},
        unseen={name: each.unseen for name, each in categories.items()},
        name=lambda rows: [value_text(value) for value in info.names(rows)],
    )


def text_arrays(batch: Batch) -> dict[str, TextArrays]:
    """Return the chunks of each text column of a batch, without their tokens."""
    texts = batch.texts.items()
    return {c: TextArrays(*(getattr(text, name).numpy() for name in TextArrays._fields)) for c, text in texts}
