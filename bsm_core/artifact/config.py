"""Config of an artifact: ``hyperparameters.json`` and the config of ``model_artifacts.pth``, merged and checked.

bsm itself reads only the keys below. A model class checks its own keys with its own config class. Unknown keys are
kept. A value of ``null`` means the default of the key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from bsm_core.artifact.contract import FULL_CLEANING, MINIMAL_CLEANING
from bsm_core.errors import ConfigError
from bsm_core.models.model_config import ClassCount, count_classes
from bsm_core.runtime.validation import validated


@dataclass(frozen=True)
class StepSpec:
    """Entry of a list of text steps: ``"name"``, or ``{"name": ..., <its parameters>}``."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


def _step_spec(entry: Any) -> StepSpec:
    if isinstance(entry, StepSpec):
        return entry
    if isinstance(entry, str):
        return StepSpec(entry)
    if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
        return StepSpec(entry["name"], {k: v for k, v in entry.items() if k != "name"})
    raise ValueError('a step is a name, or {"name": ..., <its parameters>}')


StepList = Annotated[list[Annotated[StepSpec, BeforeValidator(_step_spec)]], Field(max_length=100)]
FieldList = Annotated[list[str], Field(max_length=50_000)]


def _can_name(label: Any) -> bool:
    """Return whether a label can name a class in a table: Unicode text, a number of 64 bits, or a boolean."""
    if isinstance(label, str):
        return all(not 0xD800 <= ord(letter) < 0xE000 for letter in label)
    return isinstance(label, float) or (isinstance(label, int) and abs(label) < 1 << 63)


def _class_name(name: str) -> str:
    if not name or not _can_name(name):
        raise ValueError("a name of a class is text with at least one character, all of them Unicode")
    return name


NameList = Annotated[list[Annotated[str, AfterValidator(_class_name)]], Field(max_length=100_000)]


def _default_steps(names: tuple[str, ...]) -> list[StepSpec]:
    return [StepSpec(name) for name in names]


@dataclass(frozen=True)
class TextField:
    """Text field of the model.

    Attributes:
        key: Config key that names the column: ``"text_name"``, ``"primary_text_name"`` or ``"secondary_text_name"``.
        column: Name of the column.
        steps_key: Config key of the steps.
        steps: The steps.
    """

    key: str
    column: str
    steps_key: str
    steps: tuple[StepSpec, ...]

    @property
    def prefix(self) -> str:
        """``"primary_"``, ``"secondary_"`` or empty: the prefix of config keys and folders of this field alone."""
        return self.key.removesuffix("text_name")


class ArtifactConfig(BaseModel):
    """Keys of an artifact's config that bsm itself reads. The other keys are in ``model_extra``.

    Example:
        Check a config before it is packed::

            values = {"model_class": "lstm", "text_name": "chat", "class_names": ["no", "yes"]}
            print(ArtifactConfig.from_mapping(values, where="my config").classes)
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    model_class: str
    compat: Literal["original"] | None = None
    text_name: str | None = None
    primary_text_name: str | None = None
    secondary_text_name: str | None = None
    text_processing_steps: StepList = Field(default_factory=lambda: _default_steps(FULL_CLEANING))
    primary_text_processing_steps: StepList = Field(default_factory=lambda: _default_steps(FULL_CLEANING))
    secondary_text_processing_steps: StepList = Field(default_factory=lambda: _default_steps(MINIMAL_CLEANING))
    tab_field_list: FieldList = []
    cat_field_list: FieldList = []
    largest_magnitudes: dict[str, Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]] = {}
    is_binary: bool = True
    num_classes: ClassCount = 2
    class_names: NameList | None = None
    max_sen_len: Annotated[PositiveInt, Field(le=1_000_000)] = 512
    chunk_trancate: bool = Field(default=False, validation_alias=AliasChoices("chunk_trancate", "chunk_truncate"))
    max_total_chunks: Annotated[PositiveInt, Field(le=1_000_000)] = 5
    batch_size: PositiveInt | None = None
    tokenizer: str | None = None
    text_input_ids_key: str = "input_ids"
    text_attention_mask_key: str = "attention_mask"

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = [f.column for f in self.text_fields]
        if len(set(columns)) < len(columns):
            raise ValueError(f"primary_text_name and secondary_text_name are both {columns[0]!r}")
        if self.class_names is not None and len(set(self.class_names)) != self.num_classes:
            names = f"{len(self.class_names)} names, {len(set(self.class_names))} of them different"
            raise ValueError(f"class_names has {names}, for {self.num_classes} classes")
        return self

    _classes = model_validator(mode="before")(count_classes)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, where: str) -> ArtifactConfig:
        """Check a merged config.

        Args:
            values: The config.
            where: Name of the config in errors.

        Raises:
            ConfigError: Keys are missing or wrong; the error lists all of them.
        """
        return validated(cls, {k: v for k, v in values.items() if v is not None}, where=where)

    @property
    def text_fields(self) -> tuple[TextField, ...]:
        """Text fields: primary and secondary if ``primary_text_name`` is set, else the one of ``text_name``, if any."""
        keys = ["primary_text_name", "secondary_text_name"] if self.primary_text_name else ["text_name"]
        fields = []
        for key in keys:
            column, steps_key = getattr(self, key), key.replace("name", "processing_steps")
            if column:
                fields.append(TextField(key, column, steps_key, tuple(getattr(self, steps_key))))
        return tuple(fields)

    @property
    def classes(self) -> list[str] | list[int]:
        """Name of each class, in the order of ``prob_class_0``, ``prob_class_1`` and so on.

        The names are :attr:`given_class_names`; else the labels in ``multiclass_categories``, as ``bsm train`` writes
        them, if they name each class; else 0, 1 and so on. Labels that are integers stay integers.
        """
        labels = (self.model_extra or {}).get("multiclass_categories")
        return self.given_class_names or self._naming(labels) or list(range(self.num_classes))

    @property
    def given_class_names(self) -> list[str] | None:
        """``class_names``; else the names in ``id2label``, as Hugging Face writes it; None if neither names each class.

        The keys of ``id2label`` are class indices or their text.
        """
        by_id = (self.model_extra or {}).get("id2label")
        by_id = {str(key): name for key, name in by_id.items()} if isinstance(by_id, Mapping) else {}
        names = self._naming([by_id.get(str(i)) for i in range(self.num_classes)])
        return self.class_names or ([*map(str, names)] if names else None)

    def _naming(self, labels: Any) -> list[str] | list[int] | None:
        """Return labels that name each class, as text unless all are integers; None for anything else."""
        if not isinstance(labels, list) or not all(map(_can_name, labels)):
            return None
        names = [str(label) for label in labels]
        if not len(set(names)) == len(names) == self.num_classes:
            return None
        return labels if all(type(label) is int for label in labels) else names

    def as_mapping(self) -> dict[str, Any]:
        """Return every key and value, including defaults and unknown keys: the values for steps and model classes."""
        return dict(self)


@dataclass(frozen=True)
class ClassLabels:
    """Labels that a model was trained with, as far as they are known.

    Attributes:
        column: Name of the label column, the config key ``label_name``; None if the config has none.
        labels: Label of each class as it stands in that column, the config key ``multiclass_categories``; None if the
            config has none, or has another number of them than of classes.
        names: Name of each class for people, the config key ``class_names`` or, without it, ``id2label``; None if the
            config has neither.
    """

    column: str | None = None
    labels: list[str] | None = None
    names: list[str] | None = None

    @classmethod
    def of_config(cls, config: ArtifactConfig) -> ClassLabels:
        """Return the labels of a config."""
        values, classes = config.as_mapping(), config.num_classes
        column, labels = values.get("label_name"), values.get("multiclass_categories")
        return cls(
            column=column if isinstance(column, str) else None,
            labels=[*map(str, labels)] if isinstance(labels, list) and len(labels) == classes else None,
            names=config.given_class_names,
        )


def json_config(values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a config as a JSON file would hold it: tuples and arrays as lists, keys and paths as text.

    Args:
        values: The config.
        where: Name of the config in errors.

    Raises:
        ConfigError: JSON cannot hold one of the values.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=_json_value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where} has a value that JSON cannot hold: {error}",
            where=where,
            fix="use finite numbers, text, true, false, null, lists and objects only",
        ) from error
    return plain


def _json_value(value: Any) -> Any:
    """Return a number or an array of NumPy, or a path, as JSON holds it."""
    import numpy as np  # which takes a while, and is seldom needed here

    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    text = os.fspath(value)
    if isinstance(text, bytes):
        raise TypeError("bytes are not text")
    return text
