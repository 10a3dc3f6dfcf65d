"""Checking a run record before a report is drawn from it: it may be damaged, of another version, or of other rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from bsm_core.artifact.training_distributions import CategoryDistribution, NumberDistribution, TextDistribution
from bsm_core.report.number_bins import bins_of
from bsm_core.report.statistics import MOST_CHUNKS, MOST_CLASSES, MOST_PREDICTED, PROBABILITY_BINS, TOKEN_EDGES
from bsm_core.runtime.validation import problems_of

_T = TypeVar("_T")
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Counts = list[_Count]
_Scores = Annotated[_Counts, Field(min_length=PROBABILITY_BINS, max_length=PROBABILITY_BINS)]
_Chunks = Annotated[_Counts, Field(min_length=MOST_CHUNKS + 1, max_length=MOST_CHUNKS + 1)]
_Tokens = Annotated[_Counts, Field(min_length=len(TOKEN_EDGES) + 1, max_length=len(TOKEN_EDGES) + 1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Column(_Part):
    missing: _Count
    unusable: _Count
    stability_index: float | None


class _Limits(_Part):
    tokens: int | None
    chunks: int | None


class _Text(_Column):
    chunks: _Chunks
    tokens: _Tokens
    without_tokens: _Count
    full_chunk: _Count
    most_chunks: _Count
    limits: _Limits
    training: TextDistribution | None


class _Number(_Column):
    counts: _Counts
    training: NumberDistribution | None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        return _require(self, len(self.counts) == len(bins_of(self.training)), "there is not one count for each bin")


class _Category(_Column):
    counts: dict[str, _Count]
    other: _Count
    unseen: _Count
    unseen_examples: dict[str, _Count]
    other_unseen: _Count
    training: CategoryDistribution | None


class _Order(_Part):
    rows_per_bucket: PositiveInt
    first: _Count
    rows: _Counts
    series: list[_Count | None]
    means: list[list[float]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits = len(self.series) == len(self.means) and all(len(line) == len(self.rows) for line in self.means)
        return _require(self, fits, "there is not one mean for each bucket")


class _UncertainRow(_Part):
    margin: float
    row: _Count
    id: str
    probabilities: Annotated[list[tuple[_Count, float]], Field(min_length=1)]


class _Training(_Part):
    rows: _Count
    classes: _Counts
    scores: list[_Scores]


class _Statistics(_Part):
    format: Literal[1]
    rows: _Count
    classes: Annotated[list[str], Field(min_length=1)]
    predicted: _Counts
    probabilities: list[_Scores]
    texts: dict[str, _Text]
    numbers: dict[str, _Number]
    categories: dict[str, _Category]
    features_not_counted: _Count
    order: _Order
    least_certain: list[_UncertainRow]
    training: _Training | None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        named = [index for row in self.least_certain for index, _ in row.probabilities]
        named += [index for index in self.order.series if index is not None]
        classes = len(self.classes)
        fits = len(self.predicted) <= min(classes, MOST_PREDICTED + 1) and len(self.probabilities) == min(
            classes, MOST_CLASSES
        )
        return _require(
            self, fits and max(named, default=0) < classes, "the counts are those of another number of classes"
        )


class _Component(_Part):
    kind: str
    name: str


class _Attempt(_Part):
    attempt: int
    host: str
    began: str
    device: str
    rows: _Count


class _Settings(_Part):
    data_dir: str = ""


class _Device(_Part):
    asked: Any = None
    used: str | None = None


class _Encoders(_Part):
    precision: str
    backends: dict[str, str] = {}


class _SelfCheck(_Part):
    largest_difference: float


class _Record(_Part):
    rows: _Count
    windows: _Count
    counts: dict[str, float]
    profile: dict[str, float] | None
    settings: _Settings
    device: _Device
    components: list[_Component]
    artifact: dict[str, str]
    self_check: _SelfCheck | None
    encoders: _Encoders | None
    versions: dict[str, Any]
    attempts: list[_Attempt]
    finished: str
    seconds: float
    output: str
    statistics: _Statistics

    @model_validator(mode="after")
    def _fits(self) -> Self:
        whole = all(key.count(":") >= 3 for key in self.counts if key.startswith("reason:"))
        return _require(self, whole, "a count of a reason has no stage, reason or column")


def _require(found: _T, fits: bool, otherwise: str) -> _T:
    if not fits:
        raise ValueError(otherwise)
    return found


def why_unusable(record: Mapping[str, Any]) -> str | None:
    """Return why no report can be drawn from a run record, in a few words; None if it can."""
    try:
        _Record.model_validate_json(json.dumps(record))
    except ValidationError as error:
        return str(problems_of(error)[0])
    except (ValueError, RecursionError) as error:
        return str(error)
    return None
