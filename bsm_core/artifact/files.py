"""The files of an artifact: their names, and reading them without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bsm_core.errors import ArtifactError, BSMError, CorruptArtifactError, MissingArtifactFilesError, SinkError

ARCHIVE = "model.tar.gz"
TRAINING_METRICS = "training_metrics.json"
HYPERPARAMETERS = "hyperparameters.json"
MODEL_ARTIFACTS = "model_artifacts.pth"
# Of two twins the safe format comes first: it is the one that is read.
WEIGHTS = ("model.safetensors", "model.pth")
RISK_TABLES = ("risk_table_map.json", "risk_table_map.pkl")
IMPUTE = ("impute_dict.json", "impute_dict.pkl")
REQUIRED = ((HYPERPARAMETERS,), (MODEL_ARTIFACTS,), WEIGHTS, RISK_TABLES, IMPUTE)

SAFE_ADVICE = (
    "have the job that trained the model save tensors, numpy arrays and plain values only"
    " (bsm_core.artifact.save_artifact does); bsm runs no code of an artifact, so `bsm pack`, which writes the safe"
    " formats, cannot read such a file either"
)
"""The cure for a file that refers to forbidden code."""


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the named files that is there."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def require(folder: Path, names: Sequence[str]) -> Path:
    """The first of the named files that is there.

    Raises:
        MissingArtifactFilesError: None is.
    """
    path = find(folder, names)
    if path is None:
        raise _missing(folder, [" or ".join(reversed(names))])
    return path


def check_complete(folder: Path) -> None:
    """Check that every required file is there.

    Raises:
        MissingArtifactFilesError: Some are not; it lists all of them.
    """
    missing = [" or ".join(reversed(names)) for names in REQUIRED if find(folder, names) is None]
    if missing:
        raise _missing(folder, missing)


def _missing(folder: Path, names: list[str]) -> MissingArtifactFilesError:
    return MissingArtifactFilesError(
        f"the artifact lacks {len(names)} file(s)",
        where=str(folder),
        details=names,
        fix=f"give the folder that holds these files, or a {ARCHIVE} that does; check that training finished",
    )


def read_json_object(path: Path, name: str | None = None) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: The file.
        name: How errors call it; its file name where None.

    Raises:
        CorruptArtifactError: It is not JSON, or not an object.
    """
    where = name or path.name
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{where} cannot be read as JSON: {error}", where=where) from error
    if not isinstance(value, dict):
        raise CorruptArtifactError(f"{where} holds a {type(value).__name__}, not an object", where=where)
    return value


@contextmanager
def writing(destination: Path) -> Iterator[None]:
    """What cannot be written is an error that names the destination.

    Raises:
        SinkError: The system refused.
    """
    try:
        yield
    except BSMError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # its own words may name a temporary file
        raise SinkError(
            f"could not be written: {reason}", where=str(destination), fix="name a place that can be written"
        ) from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        ArtifactError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{path.name} cannot be read: {error.strerror or error}", where=str(path), fix="check its permissions"
        ) from error


def list_files(folder: Path) -> list[Path]:
    """Every file of a folder and its sub-folders, sorted by name; those with a hidden part are passed over."""
    files = (path for path in folder.rglob("*") if path.is_file())
    relative = ((path.relative_to(folder), path) for path in files)
    return [path for name, path in sorted(relative) if not any(part.startswith(".") for part in name.parts)]


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by relative name."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in list_files(folder)}
