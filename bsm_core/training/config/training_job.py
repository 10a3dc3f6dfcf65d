"""A training job: its checked config, and the components that the config names."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from bsm_core.artifact.config import ArtifactConfig, StepSpec, TextField, json_config
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, load_encoder_config
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.errors import ConfigError, PipelineError, PluginError, StepFailedError
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.cells import category_key
from bsm_core.preprocess.pipeline import params_used, text_pipeline
from bsm_core.runtime.validation import Problem, check_values
from bsm_core.training.config.pretrained_folders import pretrained_folder, problem_of
from bsm_core.training.config.training_config import ENCODERS, OWN_FILES, TOKENIZERS, TrainingConfig
from bsm_core.training.config.unread_keys import keys_of, unread_keys
from bsm_core.training.features.feature_keys import feature_problems
from bsm_core.training.optional.loggers import lacking
from bsm_core.training.wordpiece import fit_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("bsm")

M = TypeVar("M", bound=BaseModel)

_COLUMN_KEYS = ("text_name", "primary_text_name", "secondary_text_name", "tab_field_list")
"""Keys that name columns. The runner would read these columns even if the model class does not."""


class TrainingJob:
    """A checked config and the model class that it names.

    Everything is checked that can be checked before the rows are read.

    Args:
        values: The config as the caller wrote it.
        registry: Registry in which names are looked up.

    Attributes:
        values: The config as the caller wrote it, without nulls.
        artifact: The keys that the runner reads.
        training: The keys that the training job reads.
        names: Components of the model class and the steps.
        model_class: The model class.
        registry: Registry in which names are looked up.

    Raises:
        ConfigError: Keys of the runner, the training job or the model class are missing or wrong. The error names all
            of them.
        UnknownComponentError: A step or the model class is not registered.
    """

    def __init__(self, values: Mapping[str, Any], registry: Registry) -> None:
        values = {key: value for key, value in json_config(values, where="config").items() if value is not None}
        problems: list[Problem] = []
        if not isinstance(values.get("model_class"), str):
            _checked(ArtifactConfig, values, problems)
            _checked(TrainingConfig, values, problems)
            raise _all_in_one(problems)
        self.registry = registry
        self._tokenizers: dict[str, PreTrainedTokenizerBase] = {}
        self.names = ResolvedNames(registry, values["model_class"])
        self.model_class = registry.load(self.names.model_class, ModelBase)
        unread = [key for key in _COLUMN_KEYS if key in values and key not in keys_of(self.model_class.Config)]
        self.values = {key: value for key, value in values.items() if key not in unread}
        self.artifact = _checked(ArtifactConfig, self.values, problems)
        self.training = _checked(TrainingConfig, self.values, problems)
        _add(problems, [*self._encoder_problems(), *self._file_problems(), *self._contradictions()])
        _checked(self.model_class.Config, self.model_values(self._expected_values()), problems)
        fields = self.artifact.text_fields
        if all(isinstance(step, StepSpec) for text in fields for step in text.steps):  # else there is a problem already
            self.names.add_steps(fields)
            _add(problems, self._step_problems())
        if problems:
            raise _all_in_one(problems)
        self.names.require_all()
        for key, why in unread_keys(self, unread):
            log.warning("config key %r %s", key, why)

    def reads(self, key: str) -> bool:
        """Return whether the model class has a key in its ``Config``."""
        return key in self.model_class.Config.model_fields

    def own_or_shared(self, key: str) -> str:
        """Return a key of one text field if the config has it, otherwise the key without a prefix."""
        return key if key in self.values else key.removeprefix("primary_").removeprefix("secondary_")

    def folder(self, key: str) -> Path:
        """Return the folder that an encoder or tokenizer key names, which may lie in the Hugging Face cache."""
        own = self.own_or_shared(key)
        found = pretrained_folder(TOKENIZER if own in TOKENIZERS else ENCODER, self.values[own])
        if found is None:
            raise FileNotFoundError(f"{self.values[own]} was there when the config was checked")
        return found

    def tokenizer_keys(self) -> dict[str, list[TextField]]:
        """Return the keys of the tokenizers that the text fields use, each with its fields."""
        keys: dict[str, list[TextField]] = {}
        for text in self.artifact.text_fields:
            if "tokenizer" in params_used(self.names.steps(text), self.registry):
                keys.setdefault(self.own_or_shared(f"{text.prefix}tokenizer"), []).append(text)
        return keys

    def given_tokenizer(self, key: str) -> PreTrainedTokenizerBase | None:
        """Return the tokenizer that a key names; None if the config does not have the key. Each is loaded once."""
        if key in self.values and key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(self.folder(key))
        return self._tokenizers.get(key)

    def model_values(self, provided: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that the model class is built from.

        Args:
            provided: Values that the job provides, by config key: ``"text_encoder"``, ``"embedding_shape"``,
                ``"class_weights"`` and so on.
        """
        config = self.artifact.as_mapping() | {"batch_size": self.training.batch_size}
        if self.training.class_weights == "balanced":
            config["class_weights"] = None
        return {key: value for key, value in {**config, **provided}.items() if value is not None}

    def artifact_values(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the artifact's config: the caller's keys, the defaults of the job, and ``changes``."""
        kept = {key: value for key, value in self.values.items() if key not in OWN_FILES}
        return {**kept, **self.training.model_dump(exclude={"class_weights"}, exclude_none=True), **changes}

    def _encoder_problems(self) -> Iterator[Problem]:
        for key in filter(self.reads, ENCODERS):
            own = self.own_or_shared(key)
            given = self.values.get(own)
            if given is None:
                yield Problem(key, "missing; give a Hugging Face config, or the folder of a pretrained encoder")
            elif isinstance(given, str):
                if problem := problem_of(ENCODER, given):
                    yield Problem(own, problem)
            elif not isinstance(given, str | Mapping):
                yield Problem(own, f"a {type(given).__name__} is neither a Hugging Face config nor a folder")

    def _file_problems(self) -> Iterator[Problem]:
        for key in sorted({self.own_or_shared(f"{text.prefix}tokenizer") for text in self.artifact.text_fields}):
            given = self.values.get(key)
            if given is None:
                continue
            what = f"a {type(given).__name__} is neither a folder nor the name of a tokenizer"
            if problem := problem_of(TOKENIZER, given) if isinstance(given, str) else what:
                yield Problem(key, f"{problem}; without the key, a tokenizer is fitted")
        given = self.values.get("embedding_mat")
        if given is not None and not (isinstance(given, str) and Path(given).is_file()):
            yield Problem("embedding_mat", f"{given!r} is not a file; remove the key to start from new embeddings")

    def _contradictions(self) -> Iterator[Problem]:
        """Find keys that are valid alone and wrong together."""
        classes = self.values.get("num_classes", 2)
        if "feature_count" in self.values:
            yield Problem(
                "feature_count", "the training job sets it, to the number of inputs of the features; remove it"
            )
        if "is_binary" in self.values and self.artifact.is_binary is True and classes not in (2, "2"):
            yield Problem("num_classes", f"{classes!r} contradicts is_binary = true; set is_binary to false")
        yield from self._problems_of_options()
        yield from self._problems_of_positive_class()
        if self.values.get("baselines") is True and importlib.util.find_spec("sklearn") is None:
            yield Problem("baselines", "scikit-learn is not installed; pip install 'bsm-core[baselines]'")
        label, texts = self.values.get("label_name"), [text.column for text in self.artifact.text_fields]
        if label in [*texts, *self.artifact.tab_field_list]:
            yield Problem("label_name", f"the model would read the label {label!r} as a text field or a feature")
        yield from feature_problems(self.artifact, self.training, reads_count=self.reads("feature_count"))

    def _problems_of_options(self) -> Iterator[Problem]:
        """Find what lacks a package, an encoder or a reason."""
        if lack := lacking(self.training.loggers):
            yield Problem("loggers", lack)
        if self.training.lora:
            yield from self._adapter_problems()
        if self.training.gradient_checkpointing and not any(map(self.reads, ENCODERS)):
            yield Problem("gradient_checkpointing", "the model class has no encoder of transformers; remove the key")
        if self.training.calibrate and self.model_class.predict_step is not ModelBase.predict_step:
            yield Problem("calibrate", "the model class overrides predict_step, so a temperature would change nothing")
        if self.training.calibrate and "calibration_temperature" in self.values:
            yield Problem("calibration_temperature", "calibrate fits the temperature; remove one of the two keys")

    def _problems_of_positive_class(self) -> Iterator[Problem]:
        positive, order = self.values.get("positive_class"), self.values.get("multiclass_categories")
        if positive is None:
            return
        if self.artifact.num_classes != 2:
            what = f"there are {self.artifact.num_classes} classes, and it is the label of class 1 of two"
            yield Problem("positive_class", f"{what}: remove the key, and give the order as multiclass_categories")
        elif isinstance(order, list) and len(order) == 2 and category_key(str(order[1])) != category_key(str(positive)):
            what = f"{positive!r} is not the second of multiclass_categories, which is the label of class 1"
            yield Problem("positive_class", f"{what}: remove one of the two keys")

    def _step_problems(self) -> Iterator[Problem]:
        """Find wrong parameters of text steps, and steps that do not fit together, by building them.

        A tokenizer that is fitted later is replaced by one that knows no words.
        """
        for text in self.artifact.text_fields:
            if any(isinstance(self.names.found["step", step.name], PluginError) for step in text.steps):
                continue  # which require_all says
            try:
                text_pipeline(self.artifact, text, self._tokenizer_or_stand_in, self.registry, self.names)
            except (PipelineError, StepFailedError) as error:
                yield Problem(text.steps_key, "; ".join(filter(None, (error.what, *error.details, error.fix))))

    def _tokenizer_or_stand_in(self, text: TextField) -> PreTrainedTokenizerBase:
        key = self.own_or_shared(f"{text.prefix}tokenizer")
        given = self.values.get(key)
        known = self.given_tokenizer(key) if isinstance(given, str) and not problem_of(TOKENIZER, given) else None
        return known if known is not None else fit_wordpiece([], vocab_size=50, min_frequency=1, max_length=50)

    def _adapter_problems(self) -> Iterator[Problem]:
        """Find what adapters need and lack: their package, and pretrained weights that stay as they are."""
        if not find_spec("peft"):
            yield Problem("lora", 'the package peft is not installed; pip install "bsm-core[lora]"')
        encoders = [self.values.get(self.own_or_shared(key)) for key in filter(self.reads, ENCODERS)]
        if not encoders or not all(isinstance(given, str) for given in encoders):
            yield Problem("lora", "adapters need a pretrained encoder: give the folder of one, or remove the key")
        for key, value in self.values.items():
            if key.endswith(("reinit_pooler", "reinit_layers")) and value:
                yield Problem(key, "with lora, new weights of the encoder would not be trained; remove one of the two")

    def _expected_values(self) -> dict[str, Any]:
        """Return approximate values of what the job provides later, so that the model class's keys are checked now."""
        size = self.training.vocab_size
        expected: dict[str, Any] = {"vocab_size": size, "embedding_shape": [size, self.training.embed_size]}
        for key in filter(self.reads, ENCODERS):
            given = self.values.get(self.own_or_shared(key))
            if isinstance(given, str) and not problem_of(ENCODER, given):
                expected[key] = load_encoder_config(self.folder(key))
            else:  # anything but a mapping is a problem already, which a valid value keeps from being reported twice
                expected[key] = given if isinstance(given, Mapping) else {"model_type": "bert"}
        return expected


def _checked(model: type[M], values: Mapping[str, Any], problems: list[Problem]) -> M:
    """Return a checked model and add to ``problems``; keys that have one are left out, so that checking can go on."""
    checked, found = check_values(model, values)
    _add(problems, found)
    wrong = {_top(problem) for problem in found}
    rest = {key: value for key, value in values.items() if key not in wrong}
    return checked or check_values(model, rest)[0] or model.model_construct(**rest)


def _add(problems: list[Problem], found: Iterable[Problem]) -> None:
    """Add the problems of keys that have none yet."""
    known = {_top(problem) for problem in problems}
    problems += [problem for problem in dict.fromkeys(found) if _top(problem) not in known]


def _top(problem: Problem) -> str:
    """Return the config key of a problem inside its value; the message of a problem of several keys."""
    return problem.key.partition(".")[0] or problem.message


def _all_in_one(problems: list[Problem]) -> ConfigError:
    return ConfigError(
        f"{len(problems)} problem(s) in the training config",
        where="config",
        details=list(map(str, problems)),
        fix="correct these keys; docs/training.md and docs/model-classes.md list them",
    )
