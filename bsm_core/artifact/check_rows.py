"""Reading and writing ``self_check.json``: a few rows, and their probabilities when the artifact was packed.

:mod:`bsm_core.scoring.self_check` makes and scores the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bsm_core.artifact.files import corrupt, read_validated, write_validated
from bsm_core.errors import CorruptArtifactError, DataError
from bsm_core.runtime.precision import precision_of_dtype
from bsm_core.runtime.versions import current_name

SELF_CHECK = "self_check.json"
MOST_ROWS, MOST_BYTES = 64, 16 * 2**20
"""Limits on the check rows: a check must stay cheap, and an artifact may come from anyone."""
MOST_TEXT, _LONG = 1 << 18, 1_000
"""Characters of all cells that are longer than the second number: some HTML takes 25 us for each."""

_Word = Annotated[str, Field(pattern="^[!-~]{1,100}$")]
"""Short printable text: errors print it on a terminal."""


class CheckRows(BaseModel):
    """Rows with their probabilities, and what the probabilities were computed with.

    Attributes:
        format: Version of the file format.
        precision: Precision of the model, a key of :data:`bsm_core.runtime.precision.TOLERANCES`. Older files name a
            dtype.
        device: Type of the device, such as ``"cpu"`` or ``"cuda"``.
        versions: Versions of the libraries, as :func:`bsm_core.runtime.versions.installed` returns them.
        rows: For each row the cells of the columns that the artifact reads: text as in a CSV file, or None.
        probabilities: Probabilities ``[rows, classes]``.
        tokens: SHA-256 of the token ids of all rows, by text column.
        features: Values of all rows, by column of the feature matrix, in its order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    precision: Annotated[_Word, AfterValidator(precision_of_dtype)]
    device: _Word
    versions: Annotated[dict[Annotated[_Word, AfterValidator(current_name)], _Word], Field(max_length=64)]
    rows: Annotated[list[dict[str, str | None]], Field(min_length=1, max_length=MOST_ROWS)]
    probabilities: list[Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]]
    tokens: dict[str, str]
    features: dict[str, list[float]]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        lengths = {len(self.rows), len(self.probabilities), *map(len, self.features.values())}
        if len(lengths) > 1:
            raise ValueError("rows, probabilities and features have different lengths")
        if any(row.keys() != self.rows[0].keys() for row in self.rows):
            raise ValueError("the rows have different columns")
        if any(len(row) != len(self.probabilities[0]) for row in self.probabilities):
            raise ValueError("the rows have different numbers of probabilities")
        return self


def write_check_rows(folder: Path, rows: CheckRows) -> None:
    """Write check rows into an artifact's folder. Equal rows produce equal bytes.

    Raises:
        DataError: The rows are too large.
    """
    if problem := _text_problem(rows):
        raise DataError(problem, where=SELF_CHECK, fix="use rows with shorter texts")
    what, fix = "the check rows take", "use rows with shorter texts"
    write_validated(folder / SELF_CHECK, rows, most_bytes=MOST_BYTES, what=what, fix=fix, error=DataError)


def read_check_rows(folder: Path) -> CheckRows | None:
    """Return the check rows of an artifact; None if it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or does not hold check rows; the error lists what is wrong.
    """
    rows = read_validated(folder / SELF_CHECK, CheckRows, most_bytes=MOST_BYTES, refuse=refuse)
    if rows is not None and (problem := _text_problem(rows)):
        raise refuse([problem])
    return rows


def _text_problem(rows: CheckRows) -> str | None:
    sizes = [len(cell) for row in rows.rows for cell in row.values() if cell is not None]
    size = sum(size for size in sizes if size > _LONG)
    return f"the check rows have texts of {size:,} characters, more than {MOST_TEXT:,}" if size > MOST_TEXT else None


def refuse(problems: list[str]) -> CorruptArtifactError:
    """Return the error that lists what is wrong with the file."""
    fix = "make new check rows with `bsm pack MODEL_DIR NEW --data TABLE`, or run with --no-self-check"
    return corrupt(SELF_CHECK, "does not hold check rows of this artifact", fix, details=problems)
