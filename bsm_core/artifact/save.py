"""Writing artifacts: at the end of a training job, and packing one that is there."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import logging
import os
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from bsm_core.artifact.check_rows import SELF_CHECK
from bsm_core.artifact.config import ArtifactConfig, json_config
from bsm_core.artifact.description import wanted_keys
from bsm_core.artifact.features.explanation_background import EXPLANATION_BACKGROUND
from bsm_core.artifact.features.feature_scaling import (
    FEATURE_SCALING,
    FeatureScaling,
    check_feature_scaling,
    write_feature_scaling,
)
from bsm_core.artifact.features.feature_tables import check_impute, check_risk_tables
from bsm_core.artifact.files import (
    ARCHIVE,
    EXPORTED,
    HYPERPARAMETERS,
    IMPUTE,
    MODEL_ARTIFACTS,
    RISK_TABLES,
    WEIGHTS,
    list_files,
    require_artifact,
    sha256,
    unreadable,
)
from bsm_core.artifact.load import Artifact
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER, TextAsset, find_asset, find_inside
from bsm_core.artifact.provenance_file import PROVENANCE, write_provenance
from bsm_core.artifact.torch_writing import write_torch
from bsm_core.artifact.training_distributions import TRAINING_DISTRIBUTIONS
from bsm_core.artifact.untrusted.archives.archive import unpacked
from bsm_core.errors import TokenizerError, UsageError
from bsm_core.plugins.registry import default_registry
from bsm_core.runtime.versions import __version__
from bsm_core.storage.objects import place
from bsm_core.storage.temporary import uploading

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("bsm")
_PICKLED_TWINS = tuple(twins[1] for twins in (WEIGHTS, RISK_TABLES, IMPUTE))


def save_artifact(
    folder: Path,
    *,
    config: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
    risk_tables: Mapping[str, Any],
    impute: Mapping[str, Any],
    feature_scaling: FeatureScaling | Mapping[str, Any] | None = None,
    tokenizers: Mapping[str, PreTrainedTokenizerBase] = {},
    encoder_configs: Mapping[str, Mapping[str, Any]] = {},
    embedding_mat: Tensor | np.ndarray[Any, Any] | None = None,
    vocab: Mapping[str, int] | None = None,
    safe_only: bool = False,
) -> Path:
    """Write an artifact, at the end of a training job.

    Args:
        folder: The artifact's folder, made if it is not there. Files of the same names are replaced.
        config: The artifact's config, of JSON values.
        state_dict: ``model.state_dict()``.
        risk_tables: ``{feature: {"bins": {category: value}, "default_bin": value}}``.
        impute: ``{feature: value}``.
        feature_scaling: Scaling of the features: that of an artifact, or ``{feature: {"kind": "standard", "mean": 40.5,
            "std": 12.25}}``, with the kinds of ``feature_scaling.json``. Other features are not scaled; without any,
            the file is not written.
        tokenizers: Tokenizer by prefix: ``""`` for every text field, ``"primary_"`` or ``"secondary_"`` for one of
            them. Each is written to ``<prefix>tokenizer/``.
        encoder_configs: Hugging Face configs of encoders, by prefix. Each is written to
            ``<prefix>text_encoder/config.json``.
        embedding_mat: Embedding matrix ``[vocabulary, dimensions]``.
        vocab: Id of each token.
        safe_only: Do not write the pickled twins ``model.pth``, ``risk_table_map.pkl`` and ``impute_dict.pkl``.

    Returns:
        The folder.

    Raises:
        ConfigError: The config lacks keys, or has values that JSON cannot hold.
        CorruptArtifactError: A risk table, an imputation value or a scaling has another form.
    """
    folder = Path(folder)
    plain = json_config(config, where="config")
    encoders = {p: json_config(value, where=f"encoder_configs[{p!r}]") for p, value in encoder_configs.items()}
    ArtifactConfig.from_mapping(plain, where="config")
    tables, values = check_risk_tables(risk_tables, where="risk_tables"), check_impute(impute, where="impute")
    scaling = check_feature_scaling(feature_scaling or {}, where="feature_scaling")
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / HYPERPARAMETERS, plain)
    model_artifacts = {
        "config": plain,
        "embedding_mat": None if embedding_mat is None else torch.as_tensor(embedding_mat).detach().cpu(),
        "vocab": None if vocab is None else dict(vocab),
        "model_class": plain["model_class"],
        "bsm_version": __version__,
        "torch_version": str(torch.__version__),
        "transformers_version": importlib.metadata.version("transformers"),
    }
    write_torch(model_artifacts, folder / MODEL_ARTIFACTS)
    _write_weights(folder / WEIGHTS[0], state_dict)
    _write_json(folder / RISK_TABLES[0], tables)
    _write_json(folder / IMPUTE[0], values)
    for stale in (
        *_PICKLED_TWINS,
        SELF_CHECK,
        PROVENANCE,
        TRAINING_DISTRIBUTIONS,
        FEATURE_SCALING,
        EXPLANATION_BACKGROUND,
    ):  # of an artifact that was here before
        (folder / stale).unlink(missing_ok=True)
    shutil.rmtree(folder / EXPORTED, ignore_errors=True)
    if scaling.features:
        write_feature_scaling(folder, scaling)
    if not safe_only:
        write_torch({key: value.detach().cpu() for key, value in state_dict.items()}, folder / WEIGHTS[1])
        (folder / RISK_TABLES[1]).write_bytes(pickle.dumps(tables, protocol=4))
        (folder / IMPUTE[1]).write_bytes(pickle.dumps(values, protocol=4))
    for prefix, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(folder / f"{prefix}{TOKENIZER.folder}")
    for prefix, encoder in encoders.items():
        encoder_folder = folder / f"{prefix}{ENCODER.folder}"
        encoder_folder.mkdir(exist_ok=True)
        _write_json(encoder_folder / "config.json", encoder)
    return folder


def refresh_provenance(artifact: Artifact) -> None:
    """Update the file hashes in the artifact's record of what made it, if it has one."""
    if artifact.provenance is not None:
        write_provenance(artifact.folder, artifact.provenance.components, artifact.provenance.versions)


def pack(
    source: Path,
    destination: Path,
    *,
    safe_only: bool = False,
    prefer: Literal["json", "pickle"] | None = None,
    compat: Literal["original"] | None = None,
    before_publishing: Callable[[Artifact], None] = refresh_provenance,
) -> Path:
    """Make an artifact that needs nothing from outside: with the safe formats, the tokenizer and the encoder config.

    Equal sources produce equal bytes.

    Args:
        source: An artifact: a folder or an archive. Each of its files is read once. Files that bsm does not read are
            kept, except hidden ones, and ``code/`` and ``logs/`` of an archive. A file of an archive that cannot be
            kept is left out, with a warning.
        destination: A new folder; or a new archive whose name ends in ``.tar.gz``, with a ``.sha256`` file beside it.
        safe_only: Leave out the pickled twins ``model.pth``, ``risk_table_map.pkl`` and ``impute_dict.pkl``.
        prefer: Which of two twins is kept, the safe file or the pickled one, where the source has both. None: they
            must hold the same values. A safe file that is not kept is made again, from its pickled twin.
        compat: Value of the config key ``compat`` of the packed artifact. None: the source's. If the value changes,
            check rows are left out: their scores were computed with the other one.
        before_publishing: Called with the packed artifact. It may add files to the artifact's folder, and then has to
            update ``provenance.json``. If it raises, there is no destination.

    Returns:
        The destination.

    Raises:
        UsageError: The destination exists and is not an empty folder, or is a folder in the source.
        ArtifactError: The source cannot be loaded.
        TokenizerError: There is no tokenizer.
    """
    destination = place(destination)
    require_new(destination, place(source))

    def fill(packed: Path) -> None:
        for name, path in list_files(folder).items():
            if name != ARCHIVE:
                copy_file(path, packed / name)
        if prefer is not None:
            _keep_one_twin(packed, prefer)
        if compat is not None:
            _set_compat(packed, compat)

    with unpacked(source, keep=True) as folder:
        require_artifact(folder)  # before the copy, so that the error names this folder
        publish_artifact(destination, fill, safe_only=safe_only, before_publishing=before_publishing)
    return destination


def require_new(destination: Path, source: Path) -> None:
    """Check that an artifact of a source can be written to a place.

    Raises:
        UsageError: The destination exists and is not an empty folder, or is a folder in the source.
    """
    is_empty = destination.is_dir() and not any(destination.iterdir())
    if destination.exists() and (_is_archive(destination) or not is_empty):
        raise UsageError("the destination is there already", where=str(destination), fix="name a new one, or remove it")
    if not _is_archive(destination) and source.resolve() in destination.resolve().parents:
        raise UsageError("the destination lies in the source", where=str(destination), fix="name a place outside of it")


def publish_artifact(
    destination: Path,
    fill: Callable[[Path], None],
    *,
    safe_only: bool,
    before_publishing: Callable[[Artifact], None],
) -> None:
    """Make an artifact in a temporary folder, check and complete it, and move it to a place that is new.

    Args:
        destination: The place, as :func:`pack` takes it.
        fill: Writes the files of the artifact into the folder that it is called with.
        safe_only: See :func:`pack`.
        before_publishing: See :func:`pack`.

    Raises:
        ArtifactError: The files do not make an artifact.
        TokenizerError: There is no tokenizer.
    """
    with uploading(destination) as made:
        made.parent.mkdir(parents=True, exist_ok=True)
        # On the destination's file system, so that the result is moved into place in one step.
        with tempfile.TemporaryDirectory(prefix=".bsm-pack-", dir=made.parent) as work:
            packed = Path(work, "artifact")
            fill(packed)
            artifact = Artifact.load(packed)
            _complete(artifact)
            for twin in _PICKLED_TWINS if safe_only else ():
                (packed / twin).unlink(missing_ok=True)
            before_publishing(artifact)
            if _is_archive(destination):
                _publish_archive(packed, Path(work, made.name), made)
            else:
                packed.replace(made)


def _is_archive(destination: Path) -> bool:
    return destination.name.endswith(".tar.gz")


def _keep_one_twin(folder: Path, prefer: Literal["json", "pickle"]) -> None:
    for twins in (WEIGHTS, RISK_TABLES, IMPUTE):
        safe, pickled = (folder / name for name in twins)
        if safe.exists() and pickled.exists():
            (pickled if prefer == "json" else safe).unlink()


def _set_compat(folder: Path, compat: str) -> None:
    artifact = Artifact.at(folder)
    if artifact.config.compat == compat:
        return
    _write_json(folder / HYPERPARAMETERS, {**artifact.hyperparameters, "compat": compat})
    if "compat" in artifact.model_artifacts["config"]:  # it takes precedence
        config = {**artifact.model_artifacts["config"], "compat": compat}
        write_torch({**artifact.model_artifacts, "config": config}, folder / MODEL_ARTIFACTS)
    if (folder / SELF_CHECK).exists():
        (folder / SELF_CHECK).unlink()
        log.warning("the check rows are left out, because compat=%r changes their scores", compat)


def _complete(artifact: Artifact) -> None:
    """Read and check what the artifact holds, and add the files that are missing."""
    folder, weights = artifact.folder, artifact.weights
    if not (folder / WEIGHTS[0]).exists():
        _write_weights(folder / WEIGHTS[0], weights)
    for name, tables in ((RISK_TABLES[0], artifact.risk_tables), (IMPUTE[0], artifact.impute)):
        if not (folder / name).exists():
            _write_json(folder / name, tables)
    registry = default_registry()
    wanted = wanted_keys(artifact.names(registry), registry)
    for prefix in [field.prefix for field in artifact.config.text_fields]:
        if not (artifact.config.as_mapping().get(f"{prefix}tokenizer") or artifact.config.tokenizer):
            continue  # the steps and the model class need none, or it is in the artifact's folders
        _add_asset(TOKENIZER, artifact, prefix)
        if wanted is not None and wanted.isdisjoint(("text_encoder", f"{prefix}text_encoder")):
            continue
        try:
            _add_asset(ENCODER, artifact, prefix)
        except TokenizerError as error:  # the model class cannot be loaded here and may need none, or fails later
            log.warning("packed without an encoder config: %s", error.one_line())


def _add_asset(asset: TextAsset, artifact: Artifact, prefix: str) -> None:
    config = artifact.config.as_mapping()
    if find_inside(asset, artifact.folder, config, prefix) is None:
        found = find_asset(asset, artifact.folder, config, prefix)
        copy_asset(asset, found.folder, artifact.folder / f"{found.prefix}{asset.folder}")


def copy_asset(asset: TextAsset, source: Path, target: Path) -> None:
    """Copy the files of a text asset from one folder into another one, which is made."""
    for path in {path for pattern in asset.files for path in source.glob(pattern)}:
        copy_file(path, target / path.name)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, and make the folder of the copy.

    Raises:
        ArtifactError: The source cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.filename == str(source):  # otherwise the target cannot be written
            raise unreadable(source, error) from error
        raise


def _write_archive(folder: Path, archive: Path) -> None:
    """Write a ``.tar.gz`` whose bytes depend on the files alone: order, owner, mode and times are fixed."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in list_files(folder).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)


def _publish_archive(folder: Path, archive: Path, destination: Path) -> None:
    _write_archive(folder, archive)
    checksum = destination.with_name(destination.name + ".sha256")
    text = os.fsencode(f"{sha256(archive)}  {destination.name}\n")
    checksum.unlink(missing_ok=True)  # an earlier checksum would be wrong as soon as the archive is in place
    archive.replace(destination)
    checksum.write_bytes(text)


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    # A copy of each: safetensors refuses tensors that share memory, as tied weights do.
    owned = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
    # Not save_file, which makes a file that only its owner can read.
    path.write_bytes(safetensors.torch.save(owned, metadata={"format": "pt"}))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
