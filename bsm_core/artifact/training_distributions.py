"""Reading and writing ``training_distributions.json``: how the inputs of training, and its validation scores, lay.

A run counts its rows in the same bins, so that a report can tell how far they have moved since training.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from bsm_core.artifact.files import corrupt, read_validated, write_validated
from bsm_core.errors import ArtifactError, CorruptArtifactError

TRAINING_DISTRIBUTIONS = "training_distributions.json"
MOST_BYTES = 8 * 2**20
"""Limit on the size of the file: an artifact may come from anyone."""
MOST_FEATURES, MOST_EDGES, MOST_NAMED = 1_000, 64, 20
"""Limits on the features of each kind, the edges of one number, and the categories of one feature."""
LONGEST_NAME = 100
"""Largest number of characters of a category; a longer one is cut, in training and in runs."""

_Counts = Annotated[list[NonNegativeInt], Field(max_length=1_000)]
_Name = Annotated[str, Field(max_length=LONGEST_NAME)]
_Scores = Annotated[list[NonNegativeInt], Field(min_length=100, max_length=100)]
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NumberDistribution(BaseModel):
    """Distribution of one numeric feature in training.

    Attributes:
        edges: Edges of the bins, in ascending order. Bin ``i`` holds the values from ``edges[i - 1]`` up to, but not
            including, ``edges[i]``; the first and the last bin have no other end. Empty if there are ``values``.
        counts: Number of values in each bin, one more than there are edges or values.
        missing: Number of cells without a usable number.
        values: All values of training, in ascending order, if there are only a few: each is a bin, and one more bin
            holds every other value.
    """

    model_config = _STRICT

    edges: Annotated[list[float], Field(max_length=MOST_EDGES)]
    counts: _Counts
    missing: NonNegativeInt
    values: Annotated[list[float], Field(max_length=MOST_EDGES)] | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.edges and self.values is not None:
            raise ValueError("there are edges and values")
        ends = self.edges if self.values is None else self.values
        if any(low >= high for low, high in pairwise(ends)):
            raise ValueError("the edges or values are not in ascending order")
        if len(self.counts) != len(ends) + 1:
            raise ValueError("there is not one count for each bin")
        return self


class CategoryDistribution(BaseModel):
    """Distribution of one feature with a risk table in training.

    Attributes:
        counts: Rows of each of the most frequent categories, by the spelling of the risk table.
        other: Rows of the other categories.
        missing: Rows without a category.
    """

    model_config = _STRICT

    counts: Annotated[dict[_Name, NonNegativeInt], Field(max_length=MOST_NAMED)]
    other: NonNegativeInt
    missing: NonNegativeInt


class TextDistribution(BaseModel):
    """Lengths of the texts of one column in training, in the bins of :mod:`bsm_core.report.statistics`.

    Attributes:
        chunks: Rows by number of chunks.
        tokens: Rows by number of tokens of all chunks.
        missing: Rows without a text.
    """

    model_config = _STRICT

    chunks: Annotated[_Counts, Field(min_length=1)]
    tokens: Annotated[_Counts, Field(min_length=1)]
    missing: NonNegativeInt


class TrainingDistributions(BaseModel):
    """Distributions of the training rows, and of the scores of the validation rows.

    Attributes:
        format: Version of the file format.
        rows: Number of training rows.
        classes: Number of training rows of each class.
        numbers, categories, texts: Distributions of the inputs, by column.
        scores: For each class, the number of validation rows by the probability of the class, in 100 bins of equal
            width; empty without validation rows.
    """

    model_config = _STRICT

    format: Literal[1] = 1
    rows: NonNegativeInt
    classes: _Counts
    numbers: Annotated[dict[str, NumberDistribution], Field(max_length=MOST_FEATURES)]
    categories: Annotated[dict[str, CategoryDistribution], Field(max_length=MOST_FEATURES)]
    texts: Annotated[dict[str, TextDistribution], Field(max_length=10)]
    scores: Annotated[
        list[Annotated[list[NonNegativeInt], Field(min_length=100, max_length=100)]], Field(max_length=100)
    ]


def write_training_distributions(folder: Path, found: TrainingDistributions) -> None:
    """Write the file into an artifact's folder. Equal distributions produce equal bytes.

    Raises:
        ArtifactError: The distributions are too large to be read again.
    """
    what, fix = "the training distributions take", "use shorter names of features and categories"
    path = folder / TRAINING_DISTRIBUTIONS
    write_validated(path, found, most_bytes=MOST_BYTES, what=what, fix=fix, error=ArtifactError)


def read_training_distributions(folder: Path) -> TrainingDistributions | None:
    """Return the distributions of an artifact; None if it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or does not hold distributions; the error lists what is wrong.
    """
    path = folder / TRAINING_DISTRIBUTIONS
    return read_validated(path, TrainingDistributions, most_bytes=MOST_BYTES, refuse=_refuse)


def _refuse(problems: list[str]) -> CorruptArtifactError:
    fix = "train the model again, or remove the file: reports then show no comparison with training"
    return corrupt(TRAINING_DISTRIBUTIONS, "does not hold training distributions", fix, details=problems)
