"""Importing the folder of a training job that lacks files of an artifact: what can be had is taken."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bsm_core.artifact import Artifact
from bsm_core.artifact.files import (
    ARCHIVE,
    HYPERPARAMETERS,
    IMPUTE,
    MODEL_ARTIFACTS,
    RISK_TABLES,
    WEIGHTS,
    find,
    list_files,
)
from bsm_core.artifact.save import copy_file
from bsm_core.artifact.torch_writing import write_torch
from bsm_core.artifact.untrusted.archives.layout import is_read
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import BSMError, MissingArtifactFilesError
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.pipeline import params_used

log = logging.getLogger("bsm")
_WEIGHTS = re.compile(r".+\.(?:ckpt|pth?|bin|safetensors)")
_NO_WEIGHTS = re.compile(
    r"model_artifacts\.pth|training_args\.bin|optimizer\.pth?|scheduler\.pth?|rng_state.*"
    r"|adapter_model\..*|.*-\d+-of-\d+\..*|mp_rank_.*|(?:bf16_|fp16_)?zero_pp_rank_.*"
)
"""Names of files that match ``_WEIGHTS`` and hold no weights, or only some of a model's weights."""
_NAMED = 10
"""Largest number of files that are named as left out."""


def fill_from_job_folder(target: Path, source: Path, registry: Registry) -> None:
    """Write the files of an artifact that a folder has, and those that follow from them.

    The weights may have any name, if no other file holds weights. Of the two files of the config, one is enough.

    Args:
        target: Folder of the artifact.
        source: Folder of the training job.
        registry: Registry in which the names of the config are looked up.

    Raises:
        MissingArtifactFilesError: Something that the artifact needs cannot be had; the error lists all of it.
        ArtifactError: A file cannot be read.
    """
    files = list_files(source)
    read = {name: path for name, path in files.items() if is_read(name) and not _is_foreign_pickle(name)}
    for name, path in read.items():
        copy_file(path, target / name)
    weights, *missing = _complete_weights(target, files)
    if left_out := sorted(files.keys() - read.keys() - {weights, ARCHIVE}):
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        log.info("files that no artifact has are left out: %s%s", ", ".join(left_out[:_NAMED]), more)
    missing += _complete_config(target)
    if find(target, (MODEL_ARTIFACTS,)) is not None:
        missing += _lacking(Artifact.at(target), registry)
    if missing:
        raise MissingArtifactFilesError(
            f"the folder lacks {len(missing)} thing(s) that an artifact needs",
            where=str(source),
            details=missing,
            fix="add them to the folder; a checkpoint and a config are enough for `bsm import CHECKPOINT NEW --config"
            " FILE`",
        )


def _is_foreign_pickle(name: str) -> bool:
    """Return whether a file is a pickle other than the tables of an artifact, such as a ``vocab.pkl``."""
    return name.endswith((".pkl", ".pickle")) and name not in {*RISK_TABLES, *IMPUTE}


def _complete_weights(folder: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """Copy the weights under their name if the source has one file of weights.

    Yields:
        Name of the file in the source, or an empty text; then a line for what is missing.
    """
    if find(folder, WEIGHTS) is not None:
        yield ""
        return
    names = {name: path.name for name, path in files.items()}
    found = [name for name, last in names.items() if _WEIGHTS.fullmatch(last) and not _NO_WEIGHTS.fullmatch(last)]
    foreign = foreign_weights(names)
    yield found[0] if len(found) == 1 else ""
    if len(found) == 1:
        copy_file(files[found[0]], folder / (WEIGHTS[0] if found[0].endswith(".safetensors") else WEIGHTS[1]))
        log.info("the weights are those of %s", found[0])
    elif found:
        yield f"the weights: {', '.join(found)} all hold weights; keep only the file that is to be used"
    else:
        yield f"the weights: {' or '.join(WEIGHTS)}" + (f" ({foreign[0]}: {foreign[1]})" if foreign else "")


def _complete_config(folder: Path) -> Iterator[str]:
    """Write the one of the two files of the config that is missing; yield a line if both are."""
    artifact = Artifact.at(folder)
    lacks = [find(folder, (name,)) is None for name in (HYPERPARAMETERS, MODEL_ARTIFACTS)]
    if all(lacks):
        yield f"the config: {HYPERPARAMETERS}, or {MODEL_ARTIFACTS}"
    elif lacks[1]:
        write_torch({"config": artifact.hyperparameters}, folder / MODEL_ARTIFACTS)
        told = "there is no %s: it is made of %s, without an embedding matrix and a vocabulary"
        log.warning(told, MODEL_ARTIFACTS, HYPERPARAMETERS)
    elif lacks[0]:
        text = json.dumps(artifact.model_artifacts["config"], indent=2, sort_keys=True)
        (folder / HYPERPARAMETERS).write_text(text + "\n", "utf-8")
        log.warning("there is no %s: it is made of the config in %s", HYPERPARAMETERS, MODEL_ARTIFACTS)


def _lacking(artifact: Artifact, registry: Registry) -> Iterator[str]:
    """Yield a line for each thing that the config needs and that is not there."""
    names = artifact.names(registry)
    names.require_all(lambda: artifact.provenance)
    model_class = registry.load(names.model_class, ModelBase)
    fields = artifact.config.text_fields
    tokenizing = (text for text in fields if "tokenizer" in params_used(names.steps(text), registry))
    needs: list[Callable[[], Any]] = [
        artifact.missing_tables,
        partial(artifact.model_config, model_class.Config.model_fields),
        *(partial(artifact.tokenizer, text) for text in tokenizing),
    ]
    for need in needs:
        try:
            need()
        except MissingArtifactFilesError as error:
            yield from error.details
        except BSMError as error:
            yield error.one_line()
