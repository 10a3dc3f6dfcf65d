"""A loaded artifact."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import AliasChoices
from torch import Tensor

from bsm_core.artifact.config import ArtifactConfig, TextField
from bsm_core.artifact.feature_tables import RiskTable, read_impute, read_risk_tables
from bsm_core.artifact.files import HYPERPARAMETERS, MODEL_ARTIFACTS, check_complete, hashes, read_json_object, require
from bsm_core.artifact.pretrained_files import (
    ENCODER,
    TOKENIZER,
    find_part,
    load_encoder_config,
    load_tokenizer,
    prefix_of,
)
from bsm_core.artifact.untrusted.torch_files import fit_weights, read_embedding, read_model_artifacts, read_weights
from bsm_core.errors import CorruptArtifactError

PROVIDED = ("text_encoder", "primary_text_encoder", "secondary_text_encoder", "embedding_shape")
"""What an artifact adds to its config keys for the model classes that want it."""

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Artifact:
    """Everything of an artifact that does not depend on the model class.

    Attributes:
        folder: Where its files are; needed as long as the methods and :attr:`hashes` are.
        config: The merged and checked config.
        weights: The state dict, on the CPU, without the prefixes of wrappers.
        risk_tables: ``{feature: {"bins": {category: value}, "default_bin": value}}``, none for text fields.
        impute: Value of a missing number, by feature.
        embedding_mat: ``[vocabulary, dimensions]``, if the artifact has one.
        vocab: Id by token; empty if the artifact has none.
        versions: What the artifact was trained with, ``"torch_version"`` for example.
    """

    folder: Path
    config: ArtifactConfig
    weights: dict[str, Tensor]
    risk_tables: dict[str, RiskTable]
    impute: dict[str, float]
    embedding_mat: Tensor | None
    vocab: dict[Any, Any]
    versions: dict[str, str]

    @classmethod
    def load(cls, folder: Path) -> Artifact:
        """Read and verify an artifact.

        Args:
            folder: A folder that holds its files, as :func:`~bsm_core.artifact.unpacked` gives.

        Raises:
            MissingArtifactFilesError: Required files are not there.
            CorruptArtifactError: A file is not what it should be.
            UnsafeArtifactError: A file refers to code.
            ConfigError: Config keys are missing or wrong.
        """
        folder = Path(folder)
        check_complete(folder)
        model_artifacts = read_model_artifacts(folder)
        config = check_config(merged_config(folder, model_artifacts))
        return cls(
            folder=folder,
            config=config,
            weights=read_weights(folder),
            risk_tables=read_risk_tables(folder, ignored=[field.column for field in config.text_fields]),
            impute=read_impute(folder),
            embedding_mat=read_embedding(model_artifacts),
            vocab=_vocab(model_artifacts),
            versions=versions(model_artifacts),
        )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by relative file name, of the files as they are when it is first asked for."""
        return hashes(self.folder)

    def tokenizer(self, field: TextField) -> PreTrainedTokenizerBase:
        """The tokenizer of a text field.

        Raises:
            TokenizerError: It is nowhere; the error lists what was tried.
            CorruptArtifactError: Its files do not make a tokenizer.
        """
        found = find_part(TOKENIZER, self.folder, self.config.as_mapping(), prefix_of(field))
        return load_tokenizer(found.folder)

    def model_config(self, wants: Collection[str] = ()) -> dict[str, Any]:
        """What a model class is built from: every config key, and what else it wants.

        Args:
            wants: Names of the model class's config keys. Of these the artifact provides ``"text_encoder"``,
                ``"primary_text_encoder"``, ``"secondary_text_encoder"`` (the Hugging Face ``config.json`` of the
                encoder, as a dict) and ``"embedding_shape"`` (``[vocabulary, dimensions]``).

        Raises:
            TokenizerError: No config of the encoder is to be found.
            CorruptArtifactError: The artifact has no embedding matrix.
        """
        config = self.config.as_mapping()
        return config | {want: self._provide(want, config) for want in PROVIDED if want in wants}

    def state_dict_for(self, expected: Mapping[str, torch.Size], optional: Collection[str] = ()) -> dict[str, Tensor]:
        """The weights for a model, checked against its keys and shapes.

        Args:
            expected: Shape by key, of ``model.state_dict()``.
            optional: Keys that the model or the artifact may lack, such as those of a loss.
                ``*.embeddings.position_ids``, which older transformers saved, always is.

        Raises:
            WeightsMismatchError: Keys are missing or unexpected, or shapes differ; it lists all of them.
        """
        return fit_weights(self.weights, expected, optional)

    def _provide(self, want: str, config: Mapping[str, Any]) -> Any:
        if want == "embedding_shape":
            if self.embedding_mat is None:
                raise CorruptArtifactError(
                    f"model class {self.config.model_class!r} needs an embedding matrix, the artifact has none",
                    where=f"{MODEL_ARTIFACTS}: embedding_mat",
                    fix="save it with the artifact",
                )
            return list(self.embedding_mat.shape)
        prefix = want.removesuffix("text_encoder")
        return load_encoder_config(find_part(ENCODER, self.folder, config, prefix).folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The merged config of an artifact, as its files have it, without loading its weights.

    Raises:
        MissingArtifactFilesError: Required files are not there, of all kinds.
        CorruptArtifactError: A file is not what it should be.
        UnsafeArtifactError: A file refers to code.
    """
    check_complete(Path(folder))
    return merged_config(folder, read_model_artifacts(folder))


def merged_config(folder: Path, model_artifacts: Mapping[str, Any]) -> dict[str, Any]:
    """``hyperparameters.json`` and the config of ``model_artifacts.pth``, which wins where both have a key."""
    hyperparameters = read_json_object(require(folder, (HYPERPARAMETERS,)))
    return _canonical(hyperparameters) | _canonical(model_artifacts.get("config") or {})


def disagreements(folder: Path, model_artifacts: Mapping[str, Any]) -> list[str]:
    """Keys that ``hyperparameters.json`` and ``model_artifacts.pth`` both have, with other values."""
    hyperparameters = _canonical(read_json_object(require(folder, (HYPERPARAMETERS,))))
    config = _canonical(model_artifacts.get("config") or {})
    return sorted(key for key in hyperparameters.keys() & config.keys() if hyperparameters[key] != config[key])


def check_config(values: Mapping[str, Any]) -> ArtifactConfig:
    """Check a merged config; its errors name both files."""
    return ArtifactConfig.from_mapping(values, where=f"{HYPERPARAMETERS} and {MODEL_ARTIFACTS}")


def versions(model_artifacts: Mapping[str, Any]) -> dict[str, str]:
    """The versions that ``model_artifacts.pth`` records."""
    found = {str(key): value for key, value in model_artifacts.items() if str(key).endswith("version")}
    return {key: str(value) for key, value in found.items() if value is not None}


def _canonical(config: Mapping[Any, Any]) -> dict[str, Any]:
    """Spell keys that have two names in one way, or each file's value would hide behind the other's spelling."""
    aliases = {
        alias: name
        for name, field in ArtifactConfig.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for alias in field.validation_alias.choices
        if alias != name
    }
    plain = {str(key): _plain(value) for key, value in config.items()}
    renamed = {aliases[key]: value for key, value in plain.items() if key in aliases}
    return renamed | {key: value for key, value in plain.items() if key not in aliases}


def _plain(value: Any) -> Any:
    """Arrays and tensors of a config as lists: config values are JSON values, and travel to other processes."""
    if isinstance(value, np.ndarray | Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _vocab(model_artifacts: Mapping[str, Any]) -> dict[Any, Any]:
    vocab = model_artifacts.get("vocab")
    if vocab is not None and not isinstance(vocab, dict):
        raise CorruptArtifactError(
            f"{MODEL_ARTIFACTS}: vocab is a {type(vocab).__name__}, not a dict",
            where=f"{MODEL_ARTIFACTS}: vocab",
            fix="save it as {token: id}",
        )
    return vocab or {}
