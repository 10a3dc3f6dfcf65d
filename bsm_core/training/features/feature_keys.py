"""Config keys of a training job that say how features become inputs of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, model_validator

from bsm_core.artifact.config import ArtifactConfig
from bsm_core.errors import nearest
from bsm_core.runtime.validation import Problem

ScalingKind: TypeAlias = Literal["standard", "robust", "quantile", "none"]
_KINDS: tuple[str, ...] = get_args(ScalingKind)


def _known_kinds(value: Any) -> Any:
    for kind in value.values() if isinstance(value, Mapping) else [value]:
        if kind not in _KINDS:
            raise ValueError(f"one of {', '.join(_KINDS)} for all features, or an object with one for each feature")
    return value


def _names_or_bool(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        return value
    raise ValueError("true for all numeric features, false, or a list of features")


class FeatureKeys(BaseModel):
    """Config keys of the features.

    Attributes:
        scaling: Scaling of all numbers and values of risk tables, or by feature; features that are not named have
            ``"standard"``.
        missing_indicators: Numeric features that get one more input, which says whether the cell is missing, if cells
            are missing in training. True: all of them.
        one_hot: Features whose categories become an input each.
    """

    scaling: Annotated[ScalingKind | dict[str, ScalingKind], BeforeValidator(_known_kinds)] = "standard"
    missing_indicators: Annotated[bool | list[str], BeforeValidator(_names_or_bool)] = False
    one_hot: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _as_original(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Scale nothing for ``compat: original``: the scripts of the original project do not."""
        if values.get("compat") != "original":
            return values
        if values.get("scaling", "none") != "none" or values.get("missing_indicators") or values.get("one_hot"):
            raise ValueError("compat=original contradicts scaling, missing_indicators and one_hot: remove one of them")
        return {**values, "scaling": "none"}

    def kind(self, feature: str) -> ScalingKind:
        """Return the scaling of a feature."""
        return self.scaling.get(feature, "standard") if isinstance(self.scaling, dict) else self.scaling

    def has_indicator(self, feature: str) -> bool:
        """Return whether a feature has another input if cells are missing."""
        named = self.missing_indicators
        return feature in named if isinstance(named, list) else named


@dataclass(frozen=True)
class FeatureKinds:
    """Features of a training job by what replaces a cell, each in the order of ``tab_field_list``.

    Attributes:
        numbers: Features that are numbers.
        tables: Categories with a risk table.
        one_hot: Categories with an input each.
    """

    numbers: list[str]
    tables: list[str]
    one_hot: list[str]

    @classmethod
    def of(cls, config: ArtifactConfig, keys: FeatureKeys) -> FeatureKinds:
        """Return the features of a config."""
        texts = {text.column for text in config.text_fields}
        names = list(dict.fromkeys(config.tab_field_list))
        one_hot = [name for name in names if name in keys.one_hot and name not in texts]
        tables = [n for n in names if n in config.cat_field_list and n not in texts and n not in one_hot]
        return cls([name for name in names if name not in tables and name not in one_hot], tables, one_hot)

    @property
    def categories(self) -> list[str]:
        """Features that are no numbers."""
        return [*self.tables, *self.one_hot]


def feature_problems(config: ArtifactConfig, keys: FeatureKeys, *, reads_count: bool) -> Iterator[Problem]:
    """Find features that the keys name and that cannot be used so.

    Args:
        config: Config of the artifact.
        keys: Config keys of the features.
        reads_count: Whether the model class reads ``feature_count``, and so takes more inputs than features.
    """
    if not config.tab_field_list:
        return  # the keys are not read, which is a warning
    kinds = FeatureKinds.of(config, keys)
    scaled = [*kinds.numbers, *kinds.tables]
    indicators = keys.missing_indicators if isinstance(keys.missing_indicators, list) else []
    yield from _unknown("scaling", list(keys.scaling) if isinstance(keys.scaling, dict) else [], scaled)
    yield from _unknown("missing_indicators", indicators, kinds.numbers)
    yield from _unknown("one_hot", keys.one_hot, kinds.one_hot)
    if not reads_count:
        for key in ("missing_indicators", "one_hot"):
            if getattr(keys, key):
                what = f"model class {config.model_class!r} has one input for each feature: it reads no feature_count"
                yield Problem(key, f"{what}; leave the key out")


_WHICH = {
    "scaling": "a number or a risk table in tab_field_list",
    "missing_indicators": "a number in tab_field_list",
    "one_hot": "a feature in tab_field_list that is no text field",
}


def _unknown(key: str, names: list[str], known: list[str]) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            near = nearest(name, known)
            yield Problem(f"{key}.{name}", f"not {_WHICH[key]}" + (f"; did you mean {near!r}?" if near else ""))
