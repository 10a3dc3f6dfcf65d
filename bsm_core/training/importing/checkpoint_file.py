"""Importing a checkpoint of Lightning or a state dict, with a config of the artifact."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from bsm_core.artifact import save_artifact
from bsm_core.artifact.config import json_config
from bsm_core.artifact.files import IMPUTE, RISK_TABLES, find
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, TextAsset, load_encoder_config
from bsm_core.artifact.save import copy_asset, copy_file
from bsm_core.artifact.untrusted.foreign_forms import in_command
from bsm_core.artifact.untrusted.torch_files import load_torch, weights_of
from bsm_core.errors import ConfigError, UnsafeArtifactError, WeightsMismatchError, short_repr
from bsm_core.plugins.registry import Registry
from bsm_core.training.config.config_file import read_config_file
from bsm_core.training.config.pretrained_folders import pretrained_folder
from bsm_core.training.importing.model_probe import ModelProbe
from bsm_core.training.importing.tokenizer_check import check_vocabulary
from bsm_core.training.text_assets import read_embedding_file

log = logging.getLogger("bsm")

_PREFIXES = ("", "primary_", "secondary_")
_TABLES = {"risk_table_map": RISK_TABLES, "impute_dict": IMPUTE}
"""Config keys that name files with tables, and the names of these files in an artifact."""
_SUGGESTED = 20
"""Largest number of hyperparameters of a checkpoint in a log line."""


@dataclass
class _Named:
    """Files that a config names, and the config without their names.

    Attributes:
        config: The artifact's config.
        encoders: Hugging Face configs of encoders, by prefix.
        folders: Folders of tokenizers, by prefix.
        tables: Files of tables, each by its name in the artifact.
        embedding: Embedding matrix; None if the config names none.
    """

    config: dict[str, Any]
    encoders: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)
    embedding: Tensor | None = None

    def provided(self) -> dict[str, Any]:
        """Return the values that the artifact will provide to the model class, by config key."""
        shared = self.encoders.get("")
        found: dict[str, Any] = {f"{prefix}text_encoder": self.encoders.get(prefix, shared) for prefix in _PREFIXES}
        if self.embedding is not None:
            found["embedding_shape"] = list(self.embedding.shape)
        return {key: value for key, value in found.items() if value is not None}


def fill_from_checkpoint(target: Path, source: Path, config: Path, registry: Registry) -> None:
    """Write the files of the artifact of a checkpoint.

    Args:
        target: Folder of the artifact.
        source: The checkpoint: a ``.ckpt`` of Lightning, or a file with a state dict.
        config: JSON or TOML file with the artifact's config. ``tokenizer`` and ``text_encoder``, also with the prefixes
            ``primary_`` and ``secondary_``, name folders, ``embedding_mat`` a file of numpy, and ``risk_table_map``
            and ``impute_dict`` files of a training job.
        registry: Registry in which the model class is looked up.

    Raises:
        ConfigError: Config keys are missing or wrong; the error lists all files that are not there.
        WeightsMismatchError: Weights are missing or unexpected, or shapes differ; the error lists all of them.
        UnsafeArtifactError: The checkpoint refers to code.
        CorruptArtifactError: A file cannot be read.
    """
    named = _named_files(json_config(read_config_file(config), where=str(config)), str(config))
    probe = _probe(named, registry, str(config))
    checkpoint = _checkpoint(source)
    suggested = _hyperparameters(checkpoint)
    others = [
        f"{key} is {short_repr(named.config[key])}, in the checkpoint {short_repr(value)}"
        for key, value in suggested.items()
        if named.config.get(key, value) != value
    ]
    _tell(suggested, named.config)
    try:
        weights = probe.fit(weights_of(checkpoint, source))
    except WeightsMismatchError as error:
        error.where, error.details = str(source), (*error.details, *others)
        error.fix = f"correct model_class and the sizes in {config}"
        raise
    if others:
        log.warning("the config has other values than the hyper_parameters of the checkpoint: %s", "; ".join(others))
    save_artifact(
        target,
        config=named.config,
        state_dict=weights,
        risk_tables={},
        impute={},
        encoder_configs=named.encoders,
        embedding_mat=named.embedding,
        safe_only=True,
    )
    for name, path in named.tables.items():
        stale = next(names for names in _TABLES.values() if name in names)
        (target / stale[0]).unlink(missing_ok=True)
        copy_file(path, target / name)
    for prefix, folder in named.folders.items():
        copy_asset(TOKENIZER, folder, target / f"{prefix}{TOKENIZER.folder}")


def _probe(named: _Named, registry: Registry, where: str) -> ModelProbe:
    """Return the model of a config; check the tokenizers against it.

    Raises:
        ConfigError: The model cannot be built.
        CorruptArtifactError: A tokenizer has more tokens than the encoder.
    """
    try:
        probe = ModelProbe({**named.config, **named.provided()}, registry, where)
    except ConfigError as error:
        if named.embedding is None and "embedding_shape" in str(error):
            error.fix = "name the embedding matrix of the model, a file of numpy.save, with the key embedding_mat"
        raise
    for prefix, folder in named.folders.items():
        encoder = named.encoders.get(prefix, named.encoders.get("", {}))
        size = probe.vocabulary if encoder and len(named.folders) == 1 else encoder.get("vocab_size")
        check_vocabulary(folder, size if isinstance(size, int) else None)
    return probe


def _checkpoint(source: Path) -> Any:
    try:
        return load_torch(source)
    except UnsafeArtifactError as error:
        file = in_command(source.name, "FILE")
        error.fix = (
            "if you trust the file, and it is a checkpoint of Lightning, save its weights alone, and import them:"
            f" `python -c \"import torch; torch.save(torch.load('{file}', map_location='cpu',"
            " weights_only=False)['state_dict'], 'weights.pth')\"`"
        )
        raise


def _named_files(config: dict[str, Any], where: str) -> _Named:
    """Return the files that a config names.

    Raises:
        ConfigError: Files are not there; the error lists all of them.
    """
    problems: list[str] = []
    if not isinstance(config.get("model_class"), str):
        problems.append("model_class: missing; it names the architecture of the model")
    named = _Named({key: value for key, value in config.items() if value is not None})
    for prefix in _PREFIXES:
        _add_text_files(named, prefix, problems)
    for key, names in _TABLES.items():
        if (given := named.config.pop(key, None)) is not None:
            path = Path(str(given))
            named.tables[names[1] if path.suffix == ".pkl" else names[0]] = path
            problems += [] if path.is_file() else [f"{key}: {given!r} is not a file"]
            if path.suffix not in (".json", ".pkl"):
                problems.append(f"{key}: the name of {given!r} must end in .json or .pkl, which tells its form")
    if problems:
        fix = "correct these keys; docs/how-to/import-a-model.md lists them"
        raise ConfigError(f"{len(problems)} problem(s) in the config", where=where, details=problems, fix=fix)
    if (given := named.config.pop("embedding_mat", None)) is not None:
        named.embedding = read_embedding_file(given)
    return named


def _add_text_files(named: _Named, prefix: str, problems: list[str]) -> None:
    """Add the tokenizer and the encoder of one text field, or of all. The encoder may lie with the tokenizer."""
    if folder := _folder(named.config, prefix, TOKENIZER, problems):
        named.folders[prefix] = folder
        named.config[f"{prefix}tokenizer"] = f"{prefix}{TOKENIZER.folder}"
    given = named.config.get(f"{prefix}text_encoder")
    if given is not None and not isinstance(given, Mapping):
        folder = _folder(named.config, prefix, ENCODER, problems)
    named.config.pop(f"{prefix}text_encoder", None)
    if isinstance(given, Mapping):
        named.encoders[prefix] = given
    elif folder and (folder / "config.json").is_file():
        named.encoders[prefix] = load_encoder_config(folder)


def _folder(config: Mapping[str, Any], prefix: str, asset: TextAsset, problems: list[str]) -> Path | None:
    """Return the folder of a text asset that a config names, and add to ``problems`` if it does not have the asset."""
    key = f"{prefix}{asset.folder}"
    given = config.get(key)
    if given is None:
        return None
    folder = pretrained_folder(asset, str(given))
    if folder is None or find(folder, asset.signs) is None:
        what = f"is neither a folder with one of {', '.join(asset.signs)}, nor a name in the local Hugging Face cache"
        problems.append(f"{key}: {given!r} {what}")
    return folder


def _hyperparameters(checkpoint: Any) -> dict[str, Any]:
    """Return the plain values that Lightning stored of the arguments of the module, by name."""
    found = checkpoint.get("hyper_parameters") if isinstance(checkpoint, Mapping) else None
    values = dict(_flat(found)) if isinstance(found, Mapping) else {}
    return {key: value for key, value in values.items() if isinstance(value, str | int | float | bool)}


def _flat(values: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from value.items() if isinstance(value, Mapping) else [(str(key), value)]


def _tell(suggested: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    unsaid = [f"{key}={short_repr(value)}" for key, value in suggested.items() if key not in config]
    if unsaid:
        more = f" and {len(unsaid) - _SUGGESTED} more" if len(unsaid) > _SUGGESTED else ""
        log.info(
            "hyper_parameters of the checkpoint that the config does not have: %s%s",
            ", ".join(unsaid[:_SUGGESTED]),
            more,
        )
