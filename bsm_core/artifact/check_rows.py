"""``self_check.json``: a few rows of an artifact, and the probabilities they had when it was packed.

This is the file alone; :mod:`bsm_core.scoring.self_check` makes and scores the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bsm_core.artifact.files import read_validated
from bsm_core.errors import CorruptArtifactError, DataError
from bsm_core.runtime.precision import precision_of_dtype
from bsm_core.runtime.versions import current_name

SELF_CHECK = "self_check.json"
MOST_ROWS, MOST_BYTES = 64, 16 * 2**20
"""A check must stay cheap, and an artifact is data from somewhere else."""

_Word = Annotated[str, Field(pattern="^[!-~]{1,100}$")]
"""Something short that errors repeat to a terminal."""


class CheckRows(BaseModel):
    """Rows with their probabilities, and what they were made with.

    Attributes:
        format: Version of the file's format.
        precision: A name of :data:`bsm_core.runtime.precision.TOLERANCES`; files may still have the name of a dtype.
        device: ``"cpu"``, ``"cuda"``, …
        versions: What :func:`bsm_core.runtime.versions.installed` gave.
        rows: Of each row the cells of the columns that the artifact reads, as the text a CSV file would have; or null.
        probabilities: ``[rows, classes]``.
        tokens: SHA-256 of the token ids of these rows, by text column.
        features: The values of these rows, by feature, in the order of the feature vector.
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
            raise ValueError("rows, probabilities and features are not of one length")
        if any(row.keys() != self.rows[0].keys() for row in self.rows):
            raise ValueError("the rows have not all the same columns")
        if any(len(row) != len(self.probabilities[0]) for row in self.probabilities):
            raise ValueError("the rows have not all the same number of probabilities")
        return self


def write_check_rows(folder: Path, rows: CheckRows) -> None:
    """Write them into an artifact's folder; the same rows give the same bytes.

    Raises:
        DataError: They are too large.
    """
    content = (rows.model_dump_json(indent=2) + "\n").encode()
    if len(content) > MOST_BYTES:
        raise DataError(
            f"the check rows take {len(content) / 2**20:.1f} MiB, more than {MOST_BYTES >> 20}",
            where=SELF_CHECK,
            fix="give rows of shorter texts",
        )
    (folder / SELF_CHECK).write_bytes(content)


def read_check_rows(folder: Path) -> CheckRows | None:
    """The check rows of an artifact; None where it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or is not what it should be; it lists what is wrong.
    """
    return read_validated(folder / SELF_CHECK, CheckRows, most_bytes=MOST_BYTES, corrupt=corrupt)


def corrupt(problems: list[str]) -> CorruptArtifactError:
    """The error that says what is wrong with the file."""
    return CorruptArtifactError(
        f"{SELF_CHECK} does not hold check rows of this artifact",
        where=SELF_CHECK,
        details=problems,
        fix="make it anew with `bsm pack MODEL_DIR NEW --data TABLE`; --no-self-check runs the artifact without it",
    )
