"""Self-check of an artifact: its check rows must get the probabilities that they had when it was packed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bsm_core.artifact.check_rows import SELF_CHECK, CheckRows, refuse, write_check_rows
from bsm_core.errors import DataError, ModelFailedError, SelfCheckError
from bsm_core.models.batch import TextBatch
from bsm_core.models.encoder import Encoder
from bsm_core.plugins.registry import Registry
from bsm_core.predictor import Predictor
from bsm_core.preprocess.cells import spelled_plainly, values_at
from bsm_core.preprocess.columns import TableLike, table_columns, text_values
from bsm_core.runtime.precision import TF32, Precision, precision_of_dtype, tolerance
from bsm_core.runtime.versions import installed
from bsm_core.scoring.provenance import changes
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.read import TableSource

ROWS = 8
"""Number of check rows that are stored."""
_FEATURES_NAMED = 5
_FIX = (
    "restore the artifact, or what differs here; if the change is intended, make new check rows with"
    " `bsm pack MODEL_DIR NEW --data TABLE`, or run with --no-self-check"
)


def add_check(folder: Path, rows: TableLike, registry: Registry | None = None) -> None:
    """Store the first :data:`ROWS` rows of a table in an artifact, with their probabilities.

    Args:
        folder: The artifact's folder. An earlier ``self_check.json`` in it is replaced.
        rows: A table with at least the columns that the artifact reads. Their cells are stored as readable text.
        registry: Where names are looked up; the default registry if None.

    Raises:
        MissingColumnsError: Columns are missing.
        DataError: There are no rows, the rows are too large, or a column is there more than once.
        BSMError: The artifact cannot be loaded, or its model fails.
    """
    write_check_rows(folder, make(Predictor.open(folder, registry=registry), rows))


def make(predictor: Predictor, data: TableLike, dialect: Dialect | None = None) -> CheckRows:
    """Score the first rows of a table and return them as check rows; raise as :func:`add_check` does.

    Args:
        predictor: The artifact's predictor.
        data: The table.
        dialect: Spelling of numbers in text. None: that of the predictor.
    """
    return _scored(predictor, _as_text(predictor, data, dialect or predictor.preprocessor.dialect))


def make_of_files(predictor: Predictor, source: TableSource) -> CheckRows:
    """Score the first rows of files and return them as check rows; raise as :func:`add_check` does."""
    wanted = predictor.preprocessor.wanted
    source.require(wanted)
    with closing(source.windows(list(wanted), rows=ROWS)) as windows:
        window = next(windows)
    return make(predictor, window.table)


def check(predictor: Predictor, then: CheckRows) -> float:
    """Score check rows with the model, on its device and in its precision, and compare the probabilities.

    Args:
        predictor: The artifact's predictor.
        then: The artifact's check rows.

    Returns:
        The largest difference between a probability and the stored one.

    Raises:
        SelfCheckError: The difference is larger than the tolerance, or the model fails. The tolerance is the larger one
            of those for the stored precision and the present one.
        CorruptArtifactError: The check rows lack columns, or have another number of classes.
    """
    require_fit(predictor, then)
    try:
        now = _scored(predictor, then.rows)
    except ModelFailedError as error:
        what = f"the artifact's check rows cannot be scored here: {error.what}"
        raise SelfCheckError(
            what, where=error.where, details=[*error.details, *changes("library", then.versions, installed())], fix=_FIX
        ) from error
    differences = np.abs(np.subtract(now.probabilities, then.probabilities))
    row, column = np.unravel_index(differences.argmax(), differences.shape)
    largest = float(differences[row, column])
    precision = max(then.precision, now.precision, key=tolerance)
    if largest <= tolerance(precision):
        return largest
    gives, gave = now.probabilities[row][column], then.probabilities[row][column]
    raise SelfCheckError(
        "the artifact returns other probabilities here than when it was packed: "
        f"row {row}, {predictor.probability_names[column]} {gives:.6g} instead of {gave:.6g}, off by {largest:.3g} "
        f"(tolerance {tolerance(precision)} for {precision})",
        where=SELF_CHECK,
        details=[*_causes(then, now), *changes("library", then.versions, installed())],
        fix=_FIX,
    )


def precision_of(model: nn.Module) -> str:
    """Return the precision with the largest tolerance, of the model's parameters and of its encoders' backends.

    fp32 on a GPU counts as ``"tf32"``, to which convolutions and recurrent layers round their inputs by default.
    """
    found = {str(m.backend.precision) for m in model.modules() if isinstance(m, Encoder)}
    for parameter in filter(Tensor.is_floating_point, model.parameters()):
        precision = precision_of_dtype(str(parameter.dtype).removeprefix("torch."))
        found.add(TF32 if (precision, parameter.device.type) == (Precision.FP32, "cuda") else precision)
    return max(sorted(found), key=tolerance, default=str(Precision.FP32))


def _scored(predictor: Predictor, rows: Sequence[Mapping[str, str | None]]) -> CheckRows:
    """Score rows and return them with their probabilities, tokens and features, without counting oddities in them."""
    model = predictor.model
    batch = predictor.check_batch(rows)
    with torch.inference_mode():
        probabilities = model.predict_step(batch.to(model.device))
    return CheckRows(
        precision=precision_of(model),
        device=model.device.type,
        versions=installed(),
        rows=[dict(row) for row in rows],
        probabilities=probabilities.tolist(),
        tokens={column: _digest(text) for column, text in batch.texts.items()},
        features=dict(zip(batch.feature_names, batch.features.T.tolist(), strict=True)),
    )


def _digest(text: TextBatch) -> str:
    """Return the SHA-256 of the token ids by row and chunk, which does not depend on their order in the batch."""
    return hashlib.sha256(json.dumps(text.to_rows()).encode()).hexdigest()


def _as_text(predictor: Predictor, data: TableLike, dialect: Dialect) -> list[dict[str, str | None]]:
    """Return the first rows with each cell as the text that a CSV file would have, or None if it is missing."""
    columns, index = table_columns(data, predictor.preprocessor.wanted)
    if not len(index) or not columns:
        raise DataError("there are no rows to check the artifact with", fix="give a table with rows and its columns")
    texts = {field.column for field in predictor.preprocessor.config.text_fields}
    cells: dict[str, list[str | None]] = {}
    for name, column in predictor.preprocessor.as_read(columns).items():
        first: Any = column[:ROWS]
        if name in texts:
            values: Sequence[Any] = text_values(first)[0]
        else:
            if name not in predictor.preprocessor.risk_tables:
                first = spelled_plainly(first, dialect)
            values = values_at(first, range(len(first)))
        cells[name] = [_cell(value) for value in values]
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _cell(value: Any) -> str | None:
    import pandas as pd

    if pd.isna(value) is True:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def require_fit(predictor: Predictor, then: CheckRows) -> None:
    """Check that the rows have the columns that the model reads, and its number of classes.

    Raises:
        CorruptArtifactError: Columns are missing, or the number of classes is another one.
    """
    wanted, classes = predictor.preprocessor.wanted, predictor.model.config.num_classes
    problems = [f"no column {name!r}, needed for {key}" for name, key in wanted.items() if name not in then.rows[0]]
    if (stored := len(then.probabilities[0])) != classes:
        problems.append(f"probabilities of {stored} classes, the model has {classes}")
    if problems:
        raise refuse(problems)


def _causes(then: CheckRows, now: CheckRows) -> Iterator[str]:
    """Yield a line for each kind of difference, in the order of processing: tokens, features, model, device."""
    tokens = [column for column, digest in now.tokens.items() if then.tokens.get(column) != digest]
    for column in tokens:
        yield f"tokens of {column!r} differ: the tokenizer or its text steps are not those of the artifact"
    features = [name for name, values in now.features.items() if then.features.get(name) != values]
    if features:
        named = ", ".join(map(repr, features[:_FEATURES_NAMED])) + (", ..." if features[_FEATURES_NAMED:] else "")
        yield f"features differ: {named}: the risk tables, imputation values or scaling are not those of the artifact"
    elif list(then.features) != list(now.features):
        yield "the features or their order differ: tab_field_list is not that of the artifact"
    elif not tokens:
        yield "tokens and features are equal: the weights, the model class or a library differ"
    if (now.precision, now.device) != (then.precision, then.device):
        yield f"{now.precision} on {now.device}, was {then.precision} on {then.device}"
