"""Reading and writing ``explanation_background.json``: the mean row of training, from which reasons count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bsm_core.artifact.files import corrupt, read_validated, write_validated
from bsm_core.errors import ArtifactError, CorruptArtifactError

EXPLANATION_BACKGROUND = "explanation_background.json"
_MOST_BYTES = 8 * 2**20
"""Limit on the size of the file: an artifact may come from anyone."""
_FIX = "remove the file: reasons then count from missing values and empty texts; or pack the artifact with --data again"

_Vector = Annotated[list[float], Field(min_length=1, max_length=100_000)]


class ExplanationBackground(BaseModel):
    """Mean row of training.

    Attributes:
        features: Mean of each column of the feature matrix, after imputation and scaling.
        texts: Mean vector of each text field, by column.
        tokens: Mean embedding of the tokens of each text field, by column; a field may lack one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    features: Annotated[list[float], Field(max_length=100_000)]
    texts: Annotated[dict[str, _Vector], Field(max_length=10)]
    tokens: Annotated[dict[str, _Vector], Field(max_length=10)]


def write_explanation_background(folder: Path, background: ExplanationBackground) -> None:
    """Write the file into an artifact's folder. Equal backgrounds produce equal bytes.

    Raises:
        ArtifactError: The background is too large to be read again.
    """
    what, fix = "the mean vectors of the texts take", "use smaller vectors"
    path = folder / EXPLANATION_BACKGROUND
    write_validated(path, background, most_bytes=_MOST_BYTES, what=what, fix=fix, error=ArtifactError)


def read_explanation_background(folder: Path) -> ExplanationBackground | None:
    """Return the background of an artifact; None if it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or does not hold a background; the error lists what is wrong.
    """
    path = folder / EXPLANATION_BACKGROUND
    return read_validated(path, ExplanationBackground, most_bytes=_MOST_BYTES, refuse=_refuse)


def _refuse(problems: list[str]) -> CorruptArtifactError:
    return corrupt(EXPLANATION_BACKGROUND, "does not hold the background of reasons", _FIX, details=problems)


def misfit(problem: str) -> CorruptArtifactError:
    """Return the error for a background that does not belong to the artifact's model."""
    return corrupt(EXPLANATION_BACKGROUND, f"does not fit the model: {problem}", _FIX)
