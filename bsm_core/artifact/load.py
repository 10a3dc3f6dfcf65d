"""An artifact: its files are read when they are first used, and their content is kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bsm_core.artifact.check_rows import CheckRows, read_check_rows
from bsm_core.artifact.config import ArtifactConfig, TextField
from bsm_core.artifact.features.explanation_background import ExplanationBackground, read_explanation_background
from bsm_core.artifact.features.feature_scaling import (
    FEATURE_SCALING,
    FeatureScaling,
    read_feature_scaling,
    require_trained,
)
from bsm_core.artifact.features.feature_tables import RiskTableValues, read_impute, read_risk_tables
from bsm_core.artifact.files import (
    HYPERPARAMETERS,
    MODEL_ARTIFACTS,
    RISK_TABLES,
    TABLES,
    TRAINING_METRICS,
    FileHashes,
    corrupt,
    find,
    read_json_object,
    require,
    require_artifact,
)
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, find_asset, load_encoder_config
from bsm_core.artifact.provenance_file import Provenance, read_provenance
from bsm_core.artifact.resolved_names import ResolvedNames
from bsm_core.artifact.training_distributions import TrainingDistributions, read_training_distributions
from bsm_core.artifact.untrusted.state_dicts import fit_weights
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.artifact.untrusted.torch_files import read_embedding, read_model_artifacts, read_vocab, read_weights
from bsm_core.artifact.untrusted.values import check_nesting
from bsm_core.errors import CorruptArtifactError
from bsm_core.plugins.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("bsm")
_LARGEST_HYPERPARAMETERS = 4 << 20
_MOST_CONFIG_LISTS, _MOST_CONFIG_VALUES = 20_000, 200_000
"""Limits on a config: checking and describing one takes some 30 microseconds for each value."""
_OWN = ("config", "raw_config", "risk_tables", "impute", "feature_scaling", "vocab", "versions")
"""Attributes that :meth:`Artifact.detached` copies, so that a plugin cannot change them."""
_OF_ORIGINAL = (
    "the training scripts of the original project wrote this artifact. They treat missing numbers and some texts "
    "differently, so its scores differ from theirs. To score as they do: bsm pack MODEL NEW --compat original. "
    "To score as now without this warning, set the config key compat to null. See docs/migrating.md"
)


@dataclass(frozen=True, eq=False)
class Artifact:
    """An artifact. Each of its files is read once, when the attribute that needs it is first used.

    Pickling keeps the folder and the hashes that are known; the process that unpickles it reads the files again.

    Attributes:
        folder: The folder of the artifact's files, which must stay there as long as the artifact is used.
        hashes: SHA-256 of each file, by its name relative to ``folder``.

    Example:
        Print what an artifact holds::

            from bsm_core.artifact import unpacked

            with unpacked(Path("model.tar.gz")) as folder:
                artifact = Artifact.load(folder)
                print(artifact.config.model_class, artifact.impute, sorted(artifact.hashes))
    """

    folder: Path
    hashes: FileHashes
    _names: dict[Registry, ResolvedNames] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Open an artifact and check its config. Weights and tables are read when they are first used.

        Args:
            folder: A folder that holds the artifact's files, as :func:`~bsm_core.artifact.unpacked` yields.

        Raises:
            MissingArtifactFilesError: Required files are missing; the error lists all of them.
            CorruptArtifactError: The config, the vocabulary or the embedding matrix cannot be read.
            UnsafeArtifactError: ``model_artifacts.pth`` refers to code.
            ConfigError: Config keys are missing or wrong.
        """
        require_artifact(Path(folder))
        artifact = cls.at(folder)
        for name in ("config", "vocab", "embedding_mat"):  # all of them are in model_artifacts.pth
            getattr(artifact, name)
        for warning in (*artifact.missing_tables(), *artifact.undecided_compat()):
            log.warning("%s", warning)
        return artifact

    @classmethod
    def at(cls, folder: Path) -> Artifact:
        """Return the artifact of a folder without reading anything: an attribute that cannot be read raises later."""
        return cls(Path(folder), FileHashes(Path(folder)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.hashes)

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """Config keys of ``hyperparameters.json``."""
        [path] = require(self.folder, (HYPERPARAMETERS,))
        return _canonical(read_json_object(path, most_bytes=_LARGEST_HYPERPARAMETERS), HYPERPARAMETERS)

    @cached_property
    def model_artifacts(self) -> dict[str, Any]:
        """Content of ``model_artifacts.pth``."""
        content = read_model_artifacts(self.folder)
        return content | {"config": _canonical(content.get("config") or {}, MODEL_ARTIFACTS)}

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        """Config as the files have it; ``model_artifacts.pth`` wins where both files have a key."""
        return {**self.hyperparameters, **self.model_artifacts["config"]}

    @cached_property
    def config(self) -> ArtifactConfig:
        """Checked config, with defaults."""
        return check_config(self.raw_config)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """State dict on the CPU, without the prefixes of wrappers; see :meth:`release`."""
        return read_weights(self.folder)

    def missing_tables(self) -> list[str]:
        """Return a warning for each table that is not there and that no feature needs.

        Raises:
            MissingArtifactFilesError: A category has no table, because the file is missing.
        """
        texts = {field.column for field in self.config.text_fields}
        categories = set(self.config.cat_field_list) & set(self.config.tab_field_list) - texts
        if categories:
            require(self.folder, RISK_TABLES)
        lacking = [names for names in TABLES if find(self.folder, names) is None]
        return [f"the artifact has no {names[1]}; no feature needs it" for names in lacking]

    @cached_property
    def risk_tables(self) -> dict[str, RiskTableValues]:
        """Risk tables ``{feature: {"bins": {category: value}, "default_bin": value}}``, none for text fields.

        Empty where the artifact has no such file.
        """
        return read_risk_tables(self.folder, ignored=[field.column for field in self.config.text_fields])

    @cached_property
    def impute(self) -> dict[str, float]:
        """Value of a missing number, by feature."""
        return read_impute(self.folder)

    @cached_property
    def feature_scaling(self) -> FeatureScaling | None:
        """Scaling of the features; None where the artifact has none."""
        scaling = read_feature_scaling(self.folder)
        if (self.folder / TRAINING_METRICS).exists():  # the keys of another tool's config may mean something else
            require_trained(scaling, self.raw_config, self.config.tab_field_list)
        if scaling is not None:
            texts = {field.column for field in self.config.text_fields}
            scaling.require_features(self.config.tab_field_list, texts, self.risk_tables)
            if self.config.compat == "original":
                raise corrupt(
                    FEATURE_SCALING,
                    "contradicts compat=original: the scripts of the original project scale no features",
                    "set the config key compat to null",
                )
        return scaling

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of the feature matrix, which has one or more for each feature of ``tab_field_list``."""
        return (self.feature_scaling or FeatureScaling()).input_names(self.config.tab_field_list)

    @cached_property
    def embedding_mat(self) -> Tensor | None:
        """Embedding matrix ``[vocabulary, dimensions]``; None where the artifact has none."""
        return read_embedding(self.model_artifacts)

    @cached_property
    def vocab(self) -> dict[Any, Any]:
        """Id of each token; empty where the artifact has no vocabulary."""
        return read_vocab(self.model_artifacts)

    @cached_property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries that the artifact was trained with, ``"torch_version"`` for example."""
        named = {str(key): value for key, value in self.model_artifacts.items() if str(key).endswith("version")}
        return {key: str(value) for key, value in named.items() if value is not None}

    def undecided_compat(self) -> list[str]:
        """Return a warning if the original project's training wrote the artifact, and its config has no ``compat``."""
        is_original = "pytorch_lightning_version" in self.versions and "bsm_version" not in self.versions
        return [_OF_ORIGINAL] if is_original and "compat" not in self.raw_config else []

    @cached_property
    def check_rows(self) -> CheckRows | None:
        """Check rows with their probabilities; None where the artifact has none."""
        return read_check_rows(self.folder)

    @cached_property
    def provenance(self) -> Provenance | None:
        """Record of what made the artifact; None where there is none."""
        return read_provenance(self.folder)

    @cached_property
    def training_distributions(self) -> TrainingDistributions | None:
        """Distributions of the training rows; None where there are none."""
        return read_training_distributions(self.folder)

    @cached_property
    def explanation_background(self) -> ExplanationBackground | None:
        """Mean row of training, from which reasons for scores count; None where there is none."""
        return read_explanation_background(self.folder)

    def names(self, registry: Registry) -> ResolvedNames:
        """Return the components of the names in the config, which are resolved once in a registry."""
        if registry not in self._names:
            self._names[registry] = ResolvedNames(registry, self.config.model_class, self.config.text_fields)
        return self._names[registry]

    def release(self) -> None:
        """Free the weights and the embedding matrix once a model has them. The next access reads the files again."""
        for name in ("weights", "embedding_mat", "model_artifacts"):
            vars(self).pop(name, None)

    def detached(self) -> Artifact:
        """Return a copy for a plugin: changes to its config and tables have no effect on this artifact."""
        detached = replace(self)
        vars(detached).update({name: copy.deepcopy(getattr(self, name)) for name in _OWN})
        vars(detached)["embedding_mat"] = self.embedding_mat
        return detached

    def tokenizer(self, field: TextField) -> PreTrainedTokenizerBase:
        """Load the tokenizer of a text field.

        Raises:
            TokenizerError: There is no tokenizer; the error lists where it was looked for.
            CorruptArtifactError: Its files do not make a tokenizer.
            UnsafeArtifactError: Its files refer to files elsewhere.
        """
        folder = find_asset(TOKENIZER, self.folder, self.config.as_mapping(), field.prefix).folder
        inside = folder.is_relative_to(self.folder)
        return load_tokenizer(folder, folder.relative_to(self.folder).as_posix() if inside else None)

    def model_config(self, wants: Collection[str] = ()) -> dict[str, Any]:
        """Return the values that a model class is built from: every config key, and what the artifact provides.

        Args:
            wants: Names of the model class's config keys. Of these keys the artifact provides ``"text_encoder"``,
                ``"primary_text_encoder"``, ``"secondary_text_encoder"`` (the Hugging Face ``config.json`` of the
                encoder, as a dict), ``"embedding_shape"`` (``[vocabulary, dimensions]``) and ``"feature_count"`` (the
                number of columns of the feature matrix, if it has any).

        Raises:
            TokenizerError: There is no config of the encoder.
            CorruptArtifactError: The artifact has no embedding matrix.
        """
        config = self.config.as_mapping()
        provided: dict[str, Any] = {}
        for prefix in ("", "primary_", "secondary_"):
            if (key := f"{prefix}text_encoder") in wants:
                provided[key] = load_encoder_config(find_asset(ENCODER, self.folder, config, prefix).folder)
        if "embedding_shape" in wants:
            if self.embedding_mat is None:
                raise CorruptArtifactError(
                    f"model class {self.config.model_class!r} needs an embedding matrix, and the artifact has none",
                    where=f"{MODEL_ARTIFACTS}: embedding_mat",
                    fix="pass embedding_mat to save_artifact()",
                )
            provided["embedding_shape"] = list(self.embedding_mat.shape)
        if "feature_count" in wants and self.feature_names:
            provided["feature_count"] = len(self.feature_names)
        return config | provided

    def state_dict_for(
        self,
        expected: Mapping[str, torch.Size],
        optional: Collection[str] = (),
        tied: Iterable[Collection[str]] = (),
    ) -> dict[str, Tensor]:
        """Return the weights for a model; see :func:`~bsm_core.artifact.untrusted.state_dicts.fit_weights`.

        Args:
            expected: Shape by key, of ``model.state_dict()``.
            optional: Keys that the model or the artifact may lack, such as those of a loss.
            tied: Groups of keys that are one parameter.

        Raises:
            WeightsMismatchError: Keys are missing or unexpected, or shapes differ; the error lists all of them.
        """
        return fit_weights(self.weights, expected, optional, tied)


def check_config(values: Mapping[str, Any]) -> ArtifactConfig:
    """Check a merged config; errors name both files that it may come from."""
    return ArtifactConfig.from_mapping(values, where=f"{HYPERPARAMETERS} and {MODEL_ARTIFACTS}")


def _canonical(config: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Spell ``chunk_trancate`` as the contract does, so that the two files of the config can be merged by key."""
    plain = {str(key): _plain(value) for key, value in config.items()}
    try:
        check_nesting(plain, _MOST_CONFIG_LISTS, _MOST_CONFIG_VALUES)
    except ValueError as error:
        raise corrupt(where, f"has a config that cannot be used: {error}") from error
    if "chunk_truncate" in plain:
        plain.setdefault("chunk_trancate", plain.pop("chunk_truncate"))
    return plain


def _plain(value: Any) -> Any:
    """Return a config value with lists in place of arrays and tensors: config values are JSON values."""
    if isinstance(value, np.ndarray | Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
