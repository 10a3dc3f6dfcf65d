"""Writing artifacts: from a training job, and from an artifact of the old form."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import logging
import pickle
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from bsm_core.artifact.check_rows import SELF_CHECK
from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.description import wanted_keys
from bsm_core.artifact.feature_tables import check_impute, check_risk_tables
from bsm_core.artifact.files import (
    ARCHIVE,
    EXPORTED,
    HYPERPARAMETERS,
    IMPUTE,
    MODEL_ARTIFACTS,
    RISK_TABLES,
    WEIGHTS,
    list_files,
    sha256,
)
from bsm_core.artifact.load import Artifact
from bsm_core.artifact.pretrained_files import (
    ENCODER,
    TOKENIZER,
    Part,
    find_inside,
    find_part,
    names_tokenizer,
    prefix_of,
)
from bsm_core.artifact.provenance_file import PROVENANCE, refresh_provenance
from bsm_core.artifact.untrusted.archive import unpacked
from bsm_core.errors import ConfigError, TokenizerError, UsageError
from bsm_core.plugins.registry import default_registry
from bsm_core.runtime.versions import __version__

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
_PICKLED_TWINS = tuple(twins[1] for twins in (WEIGHTS, RISK_TABLES, IMPUTE))


def save_artifact(
    folder: Path,
    *,
    config: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
    risk_tables: Mapping[str, Any],
    impute: Mapping[str, Any],
    tokenizers: Mapping[str, PreTrainedTokenizerBase] = MappingProxyType({}),
    encoder_configs: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    embedding_mat: Tensor | np.ndarray[Any, Any] | None = None,
    vocab: Mapping[str, int] | None = None,
    safe_only: bool = False,
) -> Path:
    """Write an artifact, as the last act of a training job.

    Args:
        folder: Where to; made if need be, files of the same names are replaced.
        config: The artifact's config, of JSON values.
        state_dict: ``model.state_dict()``.
        risk_tables: ``{feature: {"bins": {category: value}, "default_bin": value}}``.
        impute: ``{feature: value}``.
        tokenizers: By prefix: ``""`` for every text field, ``"primary_"`` or ``"secondary_"`` for one; each is
            written to ``<prefix>tokenizer/``.
        encoder_configs: Hugging Face configs of encoders, by prefix; each is written to
            ``<prefix>text_encoder/config.json``.
        embedding_mat: ``[vocabulary, dimensions]``.
        vocab: Id by token.
        safe_only: Leave out the pickled twins ``model.pth``, ``risk_table_map.pkl`` and ``impute_dict.pkl``.

    Returns:
        The folder.

    Raises:
        ConfigError: The config lacks keys, or holds what JSON cannot.
        CorruptArtifactError: A risk table or an imputation value is none.
    """
    folder = Path(folder)
    plain = _as_json(config, "config")
    encoders = {prefix: _as_json(value, f"encoder_configs[{prefix!r}]") for prefix, value in encoder_configs.items()}
    ArtifactConfig.from_mapping(plain, where="config")
    tables, values = check_risk_tables(risk_tables, where="risk_tables"), check_impute(impute, where="impute")
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
    torch.save(model_artifacts, folder / MODEL_ARTIFACTS)
    _write_weights(folder / WEIGHTS[0], state_dict)
    _write_json(folder / RISK_TABLES[0], tables)
    _write_json(folder / IMPUTE[0], values)
    for stale in (*_PICKLED_TWINS, SELF_CHECK, PROVENANCE):  # of an artifact that was here before
        (folder / stale).unlink(missing_ok=True)
    shutil.rmtree(folder / EXPORTED, ignore_errors=True)
    if not safe_only:
        torch.save({key: value.detach().cpu() for key, value in state_dict.items()}, folder / WEIGHTS[1])
        (folder / RISK_TABLES[1]).write_bytes(pickle.dumps(tables, protocol=4))
        (folder / IMPUTE[1]).write_bytes(pickle.dumps(values, protocol=4))
    for prefix, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(folder / f"{prefix}{TOKENIZER.folder}")
    for prefix, encoder in encoders.items():
        place = folder / f"{prefix}{ENCODER.folder}"
        place.mkdir(exist_ok=True)
        _write_json(place / "config.json", encoder)
    return folder


def pack(
    source: Path,
    destination: Path,
    *,
    safe_only: bool = False,
    before_publishing: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Make an artifact complete in itself: its own files, the safe formats, the tokenizer and the encoder's config.

    The same source gives the same bytes.

    Args:
        source: An artifact: a folder or an archive.
        destination: A new folder; or, in ``.tar.gz``, a new archive, beside which its ``.sha256`` is written.
        safe_only: Leave out the pickled twins ``model.pth``, ``risk_table_map.pkl`` and ``impute_dict.pkl``.
        before_publishing: Called with the folder of the packed files, which it may add to; where it raises, there is no
            destination.

    Returns:
        The destination.

    Raises:
        UsageError: The destination is there already, and not an empty folder.
        ArtifactError: The source cannot be loaded.
        TokenizerError: No tokenizer is to be found.
    """
    destination = Path(destination)
    to_archive = destination.name.endswith(".tar.gz")
    if destination.exists() and (to_archive or not destination.is_dir() or any(destination.iterdir())):
        raise UsageError("the destination is there already", where=str(destination), fix="name a new one, or remove it")
    with unpacked(source) as folder, _beside(destination) as work:
        artifact = Artifact.load(folder)
        packed = work / "artifact"
        _complete(artifact, packed, safe_only)
        refresh_provenance(packed)
        before_publishing(packed)
        if to_archive:
            _write_archive(packed, work / destination.name)
            _publish_archive(work / destination.name, destination)
        else:
            packed.replace(destination)
    return destination


@contextmanager
def _beside(destination: Path) -> Iterator[Path]:
    """A working folder on the destination's disk, from which a finished result is moved into place in one step."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bsm-pack-", dir=destination.parent) as folder:
        yield Path(folder)


def _complete(artifact: Artifact, packed: Path, safe_only: bool) -> None:
    """Copy the artifact's files and add those that are missing."""
    for path in list_files(artifact.folder):
        name = path.relative_to(artifact.folder).as_posix()
        if name == ARCHIVE or (safe_only and name in _PICKLED_TWINS):
            continue
        _copy(path, packed / name)
    if not (packed / WEIGHTS[0]).exists():
        _write_weights(packed / WEIGHTS[0], artifact.weights)
    for name, tables in ((RISK_TABLES[0], artifact.risk_tables), (IMPUTE[0], artifact.impute)):
        if not (packed / name).exists():
            _write_json(packed / name, tables)
    wanted = wanted_keys(artifact.config.model_class, default_registry())
    for field in artifact.config.text_fields:
        if not names_tokenizer(artifact.config.as_mapping(), prefix_of(field)):
            continue  # steps and model class do without; what lies in the artifact's folders was copied
        _pack_in(TOKENIZER, artifact, packed, prefix_of(field))
        if wanted is not None and wanted.isdisjoint(("text_encoder", f"{prefix_of(field)}text_encoder")):
            continue
        try:
            _pack_in(ENCODER, artifact, packed, prefix_of(field))
        except TokenizerError as error:  # the model class cannot be loaded here and may need none, or fails later
            logger.warning("packed without an encoder config: %s", error.one_line())


def _pack_in(part: Part, artifact: Artifact, packed: Path, prefix: str) -> None:
    config = artifact.config.as_mapping()
    if find_inside(part, artifact.folder, config, prefix) is None:
        found = find_part(part, artifact.folder, config, prefix)
        for path in {path for pattern in part.files for path in found.folder.glob(pattern)}:
            _copy(path, packed / f"{found.prefix}{part.folder}" / path.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write_archive(folder: Path, archive: Path) -> None:
    """Write a ``.tar.gz`` whose bytes depend on the files alone: order, owner, mode and times are fixed."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in list_files(folder):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)


def _publish_archive(archive: Path, destination: Path) -> None:
    checksum = destination.with_name(destination.name + ".sha256")
    text = f"{sha256(archive)}  {destination.name}\n"
    checksum.unlink(missing_ok=True)  # or it would be wrong for a moment
    archive.replace(destination)
    checksum.write_text(text)


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    # safetensors refuses tensors that share memory, as tied weights do: each gets its own.
    owned = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
    path.write_bytes(safetensors.torch.save(owned, metadata={"format": "pt"}))  # save_file makes it the owner's alone


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _as_json(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A config as JSON would give it back: tuples as lists, keys as text, and nothing that runs code."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(config), sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where} holds what JSON cannot: {error}", where=where, fix="give numbers, text, lists and dicts"
        ) from error
    return plain
