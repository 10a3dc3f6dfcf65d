"""What a training job is asked for: one config, of which most becomes the artifact's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from bsm_core.artifact.config import ArtifactConfig, json_config
from bsm_core.artifact.pretrained_files import load_encoder_config, prefix_of
from bsm_core.errors import ConfigError, nearest
from bsm_core.models.base import ModelBase
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.steps import names_used
from bsm_core.runtime.validation import validated
from bsm_core.scoring.self_check import ROWS
from bsm_core.scoring.settings import sources
from bsm_core.training.wordpiece import SPECIAL_TOKENS

log = logging.getLogger("bsm")

_INPUTS = ("text_name", "primary_text_name", "secondary_text_name", "tab_field_list")
"""Keys that name columns; the runner would ask for them even where the model class does not read them."""
ENCODERS = ("text_encoder", "primary_text_encoder", "secondary_text_encoder")
TOKENIZERS = ("tokenizer", "primary_tokenizer", "secondary_tokenizer")
_FOR_TRAINING_ALONE = (*ENCODERS, *TOKENIZERS, "embedding_mat")
"""Keys that name what the artifact has in files of its own."""


class TrainingConfig(BaseModel):
    """Config keys of the training job itself; the model class has further ones, such as ``lr``."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    label_name: str
    multiclass_categories: list[str | int | float | bool] | None = None
    class_weights: Literal["balanced"] | list[NonNegativeFloat] | None = None
    batch_size: PositiveInt = 32
    max_epochs: PositiveInt = 3
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    monitor: Literal["log_loss", "auroc", "f1", "accuracy"] = "log_loss"
    early_stopping_patience: PositiveInt = 3
    gradient_clip_val: PositiveFloat = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: NonNegativeInt = 0
    vocab_size: Annotated[int, Field(gt=len(SPECIAL_TOKENS))] = 8000
    min_frequency: PositiveInt = 2
    embed_size: PositiveInt = 64
    risk_smoothing: NonNegativeFloat = 20.0
    risk_min_count: PositiveInt = 1
    check_rows: Annotated[int, Field(ge=0, le=ROWS)] = ROWS


@dataclass(frozen=True)
class TrainingJob:
    """A checked config, and the model class it names.

    Attributes:
        values: The config as it was given, without nulls.
        artifact: The keys that the runner reads.
        training: The keys that the training job reads.
        component: The model class as the registry knows it.
        model_class: The model class, loaded.
        registry: Where names are looked up.
    """

    values: dict[str, Any]
    artifact: ArtifactConfig
    training: TrainingConfig
    component: Component
    model_class: type[ModelBase]
    registry: Registry

    @classmethod
    def from_config(cls, values: Mapping[str, Any], registry: Registry) -> TrainingJob:
        """Check everything that can be known before the data are read.

        Raises:
            ConfigError: Keys are missing or wrong, of the runner, the training job and the model class; it names all.
            UnknownComponentError: A step or the model class is not registered.
        """
        values = {key: value for key, value in json_config(values, where="config").items() if value is not None}
        problems: list[str] = []
        if not isinstance(values.get("model_class"), str):
            _collect(problems, ArtifactConfig, values)
            _collect(problems, TrainingConfig, values)
            raise _all_at_once(problems)
        component = registry.resolve("model_class", values["model_class"], where="config.model_class")
        model_class = registry.load(component, ModelBase)
        unread = [key for key in _INPUTS if key in values and key not in _keys(model_class.Config)]
        values = {key: value for key, value in values.items() if key not in unread}
        artifact = _collect(problems, ArtifactConfig, values)
        training = _collect(problems, TrainingConfig, values)
        job = cls(values, artifact, training, component, model_class, registry)
        _add(problems, [*job._encoder_problems(), *job._file_problems(), *job._contradictions()])
        _collect(problems, job.model_class.Config, job.model_values(job._likely()))
        if problems:
            raise _all_at_once(problems)
        job._warn_of_unread_keys(unread)
        return job

    def wants(self, key: str) -> bool:
        """Whether the model class lists a key in its ``Config``."""
        return key in self.model_class.Config.model_fields

    def encoder_key(self, key: str) -> str:
        """The key that says what an encoder is: its own where it is given, else the one without a prefix."""
        return key if key in self.values else "text_encoder"

    def tokenizer_key(self, prefix: str) -> str:
        """The same for the tokenizer of a text field."""
        return f"{prefix}tokenizer" if f"{prefix}tokenizer" in self.values else "tokenizer"

    def model_values(self, provided: Mapping[str, Any]) -> dict[str, Any]:
        """What the model class is built from.

        Args:
            provided: Values that come from elsewhere: ``"text_encoder"``, ``"embedding_shape"``, class weights, ….
        """
        config = self.artifact.as_mapping() | {"batch_size": self.training.batch_size}
        if self.training.class_weights == "balanced":
            config["class_weights"] = None
        return {key: value for key, value in {**config, **provided}.items() if value is not None}

    def artifact_values(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The artifact's config: what was given and what training chose, without what stands in files of its own."""
        kept = {key: value for key, value in self.values.items() if key not in _FOR_TRAINING_ALONE}
        return {**kept, **self.training.model_dump(exclude={"class_weights"}, exclude_none=True), **changes}

    def _encoder_problems(self) -> Iterator[str]:
        for key in filter(self.wants, ENCODERS):
            own = self.encoder_key(key)
            given = self.values.get(own)
            if given is None:
                yield f"{key}: missing; give a Hugging Face config, or the folder of a pretrained encoder"
            elif isinstance(given, str) and not Path(given).is_dir():
                yield f"{own}: {given!r} is no folder"
            elif isinstance(given, str) and not (Path(given) / "config.json").is_file():
                yield f"{own}: no config.json in the folder {given!r}"
            elif not isinstance(given, str | Mapping):
                yield f"{own}: a {type(given).__name__} is neither a config nor a folder"

    def _file_problems(self) -> Iterator[str]:
        for key in sorted({self.tokenizer_key(prefix_of(text)) for text in self.artifact.text_fields}):
            given = self.values.get(key)
            if given is not None and not (isinstance(given, str) and Path(given).is_dir()):
                yield f"{key}: {given!r} is no folder; leave the key out to have a tokenizer fitted"
        given = self.values.get("embedding_mat")
        if given is not None and not (isinstance(given, str) and Path(given).is_file()):
            yield f"embedding_mat: {given!r} is no file; leave the key out to start from fresh embeddings"

    def _contradictions(self) -> Iterator[str]:
        """Keys that are right by themselves and wrong together."""
        classes = self.values.get("num_classes", 2)
        if self.values.get("is_binary") in (True, "true") and classes != 2:
            yield f"num_classes: {classes!r} contradicts is_binary = true; set that to false"
        label, texts = self.values.get("label_name"), [text.column for text in self.artifact.text_fields]
        if label in [*texts, *self.artifact.tab_field_list]:
            yield f"label_name: the model would read {label!r} as a text field or a feature"

    def _likely(self) -> dict[str, Any]:
        """What is provided later, as far as it is known: enough to check the model class's keys early."""
        likely: dict[str, Any] = {}
        if self.wants("embedding_shape"):
            likely["embedding_shape"] = [self.training.vocab_size, self.training.embed_size]
        if self.wants("vocab_size"):
            likely["vocab_size"] = self.training.vocab_size
        for key in filter(self.wants, ENCODERS):
            given = self.values.get(self.encoder_key(key))
            if isinstance(given, str) and (Path(given) / "config.json").is_file():
                likely[key] = load_encoder_config(Path(given))
            else:
                likely[key] = given if isinstance(given, Mapping) else {"model_type": "bert"}  # is a problem already
        return likely

    def _warn_of_unread_keys(self, inputs: list[str]) -> None:
        for key in inputs:
            log.warning("config key %r is left out: model class %r does not read it", key, self.artifact.model_class)
        models = (ArtifactConfig, TrainingConfig, self.model_class.Config)
        known = {key for model in models for key in _keys(model)} | {*sources(), *_FOR_TRAINING_ALONE, "id_name"}
        known -= {"text_processing_steps", "primary_text_processing_steps", "secondary_text_processing_steps"}
        for text in self.artifact.text_fields:
            known |= {text.steps_key, *names_used(text.steps, registry=self.registry, where=f"config.{text.steps_key}")}
        for key in sorted(self.values.keys() - known):
            near = nearest(key, known)
            log.warning("config key %r is read by nothing here%s", key, f"; did you mean {near!r}?" if near else "")


def read_config_file(path: Path) -> dict[str, Any]:
    """The config of a JSON file.

    Raises:
        ConfigError: It is not there, is not JSON or holds something else than an object.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the config cannot be read: {error}", where=str(path), fix="check the path, and that it is JSON"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"the config is a {type(values).__name__}, not an object", where=str(path))
    return values


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """The keys that a model reads, under all their names."""
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.validation_alias, AliasChoices):
            yield from (alias for alias in field.validation_alias.choices if isinstance(alias, str))


def _collect(problems: list[str], model: type[Any], values: Mapping[str, Any]) -> Any:
    """A checked model; of one with problems what its other keys make, so that checking can go on."""
    try:
        return validated(model, values, where="config")
    except ConfigError as error:
        _add(problems, error.details)
        wrong = {_key(detail) for detail in error.details}
        return model.model_construct(**{key: value for key, value in values.items() if key not in wrong})


def _add(problems: list[str], found: Iterable[str]) -> None:
    """Add those of keys that have no problem yet."""
    known = {_key(problem) for problem in problems}
    problems += [problem for problem in dict.fromkeys(found) if _key(problem) not in known]


def _key(problem: str) -> str:
    return problem.partition(":")[0].partition(".")[0]


def _all_at_once(problems: list[str]) -> ConfigError:
    return ConfigError(
        f"{len(problems)} problem(s) in the training config",
        where="config",
        details=problems,
        fix="correct these keys; docs/training.md and docs/model-classes.md list them",
    )
