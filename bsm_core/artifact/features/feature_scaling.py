"""Reading and writing ``feature_scaling.json``: how the features of a table become the inputs of the model.

A scaled number is computed in float64, and is rounded to float32 once. Files without an entry for a feature leave it as
it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bsm_core.artifact.files import corrupt, read_validated, write_validated
from bsm_core.errors import ArtifactError, CorruptArtifactError
from bsm_core.runtime.validation import problems_of

FEATURE_SCALING = "feature_scaling.json"
MOST_QUANTILES = 1_000
"""Largest number of quantiles of a feature."""
MOST_CATEGORIES = 50
"""Largest number of categories of a feature that has an input for each."""
_MOST_BYTES = 64 << 20
_TRAINED = ("standard", "robust", "quantile", "one_hot")
"""Kinds of scaling of which training writes an entry."""
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 1e-280
"""Number whose reciprocal can be multiplied by a large one."""
_FIX = "restore the file, or train the artifact again; without scaling, its model scores wrongly"

Floats: TypeAlias = npt.NDArray[np.float64]
_Finite = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Positive = Annotated[float, Field(gt=0, le=2 * _LARGEST)]
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NumberScaling(BaseModel):
    """Scaling of a feature that has one number for each row: a number, or the value of a risk table.

    Attributes:
        missing_indicator: Whether the model has one more input, which is 1 where the cell has no usable number, else 0.
    """

    model_config = _STRICT

    missing_indicator: bool = False

    @property
    def inputs(self) -> int:
        """Number of the feature's inputs of the model."""
        return 2 if self.missing_indicator else 1

    @property
    def center_and_scale(self) -> tuple[float, float] | None:
        """Number that is subtracted, and number by which the difference is divided; None if the formula is another."""
        return None

    def scaled(self, values: Floats) -> Floats:
        """Return the scaled values, float64 ``[rows]``; with a very small scale, they may be infinite."""
        if self.center_and_scale is None:
            return values
        center, scale = self.center_and_scale
        return (values - center) / scale

    def input_names(self, feature: str) -> tuple[str, ...]:
        """Return the names of the feature's inputs of the model."""
        return (feature, f"{feature} is missing") if self.missing_indicator else (feature,)


class Unscaled(NumberScaling):
    """Feature that is not scaled."""

    kind: Literal["none"] = "none"


class StandardScaling(NumberScaling):
    """Distance from the mean in standard deviations."""

    kind: Literal["standard"] = "standard"
    mean: _Finite
    std: _Positive

    @property
    def center_and_scale(self) -> tuple[float, float]:
        """Return the number that is subtracted, and the divisor."""
        return self.mean, self.std


class RobustScaling(NumberScaling):
    """Distance from the median in interquartile ranges."""

    kind: Literal["robust"] = "robust"
    median: _Finite
    iqr: _Positive

    @property
    def center_and_scale(self) -> tuple[float, float]:
        """Return the number that is subtracted, and the divisor."""
        return self.median, self.iqr


class QuantileScaling(NumberScaling):
    """Quantile of the normal distribution that has the rank of the value in training.

    The scores of values between two quantiles of training are interpolated. Values below the first or above the last
    quantile have its score. A value that several quantiles have has the score of their mean rank.

    Attributes:
        quantiles: Quantiles of training at evenly spaced ranks from 0 to 1, in ascending order.
    """

    kind: Literal["quantile"] = "quantile"
    quantiles: Annotated[tuple[_Finite, ...], Field(min_length=1, max_length=MOST_QUANTILES, strict=False)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(low > high for low, high in pairwise(self.quantiles)):
            raise ValueError("the quantiles are not in ascending order")
        return self

    @cached_property
    def _points(self) -> tuple[Floats, Floats]:
        """Different values among the quantiles, and the score of each."""
        values, first, count = np.unique(np.array(self.quantiles), return_index=True, return_counts=True)
        ranks = (first + count / 2) / len(self.quantiles)  # from 0.5 / n to 1 - 0.5 / n, so no score is infinite
        return values, np.array([NormalDist().inv_cdf(rank) for rank in ranks.tolist()])

    def scaled(self, values: Floats) -> Floats:
        """Return the scaled values, float64 ``[rows]``."""
        points, scores = self._points
        values = np.clip(values, points[0], points[-1])
        found: Floats = values - points[0]
        rows = _ascending(found, float(points[-1] - points[0]))
        found[rows] = np.interp(values[rows], points, scores)  # five times as fast as without an order
        np.clip(found, scores[0], scores[-1], out=found)  # a slope may be infinite
        return found


def _ascending(values: Floats, largest: float) -> npt.NDArray[np.int64]:
    """Return the rows of values from 0 to ``largest``, ordered by value, but for values that are almost equal.

    Integers of a value and its row are sorted three times as fast as :func:`numpy.argsort` sorts.
    """
    bits = len(values).bit_length()
    rows = (values * (2.0 ** (62 - bits) / max(largest, _SMALLEST))).astype(np.int64)
    rows <<= bits
    rows |= np.arange(len(values))
    rows.sort()
    rows &= (1 << bits) - 1
    return rows


class OneHot(BaseModel):
    """Feature with an input for each category, which is 1 in the rows of the category, else 0.

    Attributes:
        categories: Categories of training. A missing cell is the category ``"nan"``. All inputs of a category that is
            not among them are 0.
    """

    model_config = _STRICT

    kind: Literal["one_hot"] = "one_hot"
    center_and_scale: ClassVar[None] = None
    categories: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_CATEGORIES, strict=False)]

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is listed twice")
        return self

    @property
    def inputs(self) -> int:
        """Number of the feature's inputs of the model."""
        return len(self.categories)

    def input_names(self, feature: str) -> tuple[str, ...]:
        """Return the names of the feature's inputs of the model."""
        return tuple(f"{feature} = {category}" for category in self.categories)

    @property
    def bins(self) -> dict[str, float]:
        """Position of each category."""
        return {category: float(position) for position, category in enumerate(self.categories)}


Scaling: TypeAlias = Unscaled | StandardScaling | RobustScaling | QuantileScaling | OneHot


class FeatureScaling(BaseModel):
    """Scaling of each feature.

    Attributes:
        format: Version of the file format.
        features: Scaling by feature; other features are not scaled.
    """

    model_config = _STRICT

    format: Literal[1] = 1
    features: dict[str, Annotated[Scaling, Field(discriminator="kind")]] = {}

    def input_names(self, features: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the model's inputs, in order.

        Args:
            features: Names of the features, in order.
        """
        plain = Unscaled()
        return tuple(name for f in features for name in self.features.get(f, plain).input_names(f))

    def require_features(self, features: Collection[str], texts: Collection[str], risk_tables: Collection[str]) -> None:
        """Check that each feature of the file is one of the model, and of a kind that its scaling is for.

        Args:
            features: Names of the model's features.
            texts: Names of the text fields, which are no categories.
            risk_tables: Names of the features with a risk table.

        Raises:
            CorruptArtifactError: The file is of other features; the error lists all of them.
        """
        problems = [f"{name!r} is not in tab_field_list" for name in self.features if name not in features]
        for name, scaling in self.features.items():
            if isinstance(scaling, OneHot) and (name in texts or name in risk_tables):
                problems.append(f"{name!r} is one_hot, but has a risk table or is a text field")
            elif name in risk_tables and scaling.inputs > 1:
                problems.append(f"{name!r} has a missing_indicator, which is for numbers, and a risk table")
        if problems:
            raise _refuse(problems)


def require_trained(scaling: FeatureScaling | None, config: Mapping[str, Any], features: Iterable[str]) -> None:
    """Check that no feature lacks the scaling that the keys of a training job in the config say it was trained with.

    Args:
        scaling: Scaling of the artifact; None if it has none.
        config: Config of the artifact. Without ``scaling`` and ``one_hot``, nothing is known of the training.
        features: Names of the model's features.

    Raises:
        CorruptArtifactError: Features lack their scaling; the error lists them.
    """
    kinds, one_hot = config.get("scaling", "none"), config.get("one_hot")
    names = one_hot if isinstance(one_hot, list) else []
    lacking = []
    for name in dict.fromkeys(features):
        of_name = kinds.get(name, "standard") if isinstance(kinds, Mapping) else kinds
        kind = "one_hot" if name in names else of_name
        if kind in _TRAINED and name not in (scaling.features if scaling else ()):
            lacking.append(f"{name!r} is not in the file, and was trained with {kind!r}, as the config says")
    if lacking:
        problem = "lacks features that training scaled" if scaling else "is missing, and training scaled features"
        raise corrupt(FEATURE_SCALING, problem, _FIX, details=lacking)


def check_feature_scaling(features: FeatureScaling | Mapping[str, Any], *, where: str) -> FeatureScaling:
    """Check ``{feature: {"kind": ..., ...}}``, as ``feature_scaling.json`` has it under ``features``.

    A scaling is returned as it is.

    Raises:
        CorruptArtifactError: A value has another form; the error lists each place.
    """
    if isinstance(features, FeatureScaling):
        return features
    try:
        return FeatureScaling.model_validate({"features": dict(features)})
    except ValidationError as error:
        problem = f"holds {len(problems_of(error))} value(s) that cannot be used"
        raise corrupt(where, problem, details=list(map(str, problems_of(error)))) from error


def read_feature_scaling(folder: Path) -> FeatureScaling | None:
    """Return the scaling of the features of an artifact; None if it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or does not hold a scaling; the error lists what is wrong.
    """
    return read_validated(folder / FEATURE_SCALING, FeatureScaling, most_bytes=_MOST_BYTES, refuse=_refuse)


def write_feature_scaling(folder: Path, scaling: FeatureScaling) -> None:
    """Write the scaling into an artifact's folder. Equal scalings produce equal bytes.

    Raises:
        ArtifactError: The file would be too large to be read again.
    """
    what, fix = "the scaling of the features takes", "scale fewer features by quantiles"
    write_validated(folder / FEATURE_SCALING, scaling, most_bytes=_MOST_BYTES, what=what, fix=fix, error=ArtifactError)


def _refuse(problems: Sequence[str]) -> CorruptArtifactError:
    return corrupt(FEATURE_SCALING, "does not hold a scaling of this artifact's features", _FIX, details=problems)
