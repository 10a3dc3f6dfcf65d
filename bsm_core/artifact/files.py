"""Names of an artifact's files, and reading them without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.artifact.untrusted.values import check_nesting
from bsm_core.errors import (
    ArtifactError,
    BSMError,
    CorruptArtifactError,
    MissingArtifactFilesError,
    printable,
    why_unreadable,
)
from bsm_core.runtime.validation import Problem, problems_of

ARCHIVE = "model.tar.gz"
TRAINING_METRICS = "training_metrics.json"
HYPERPARAMETERS = "hyperparameters.json"
MODEL_ARTIFACTS = "model_artifacts.pth"
# Of two twins the safe format comes first: if both are there, it is the one that is read.
WEIGHTS = ("model.safetensors", "model.pth")
RISK_TABLES = ("risk_table_map.json", "risk_table_map.pkl")
IMPUTE = ("impute_dict.json", "impute_dict.pkl")
EXPORTED = "onnx"
"""Name of the folder with the exported encoders."""
REQUIRED = ((HYPERPARAMETERS,), (MODEL_ARTIFACTS,), WEIGHTS)
TABLES = (RISK_TABLES, IMPUTE)
"""Files that training writes only if a feature needs them."""

_POINTER, _LARGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1_024

M = TypeVar("M", bound=BaseModel)
_LONGEST_KEY = 80
_PROBLEMS_NAMED = 10
LARGEST_JSON = 80 << 20
"""Largest JSON file that is read. Tokenizers with a vocabulary of a million entries have 70 MiB."""
_LARGEST_SMALL_JSON = 8 << 20
_MOST_BRACKETS, _MOST_COMMAS = 1_200_000, 3_200_000
"""Limits on the characters of a JSON file that begin a value. A value takes some hundred bytes of memory."""

SAFE_ADVICE = (
    "have the job that trained the model save tensors, numpy arrays and plain values only"
    " (bsm_core.artifact.save_artifact does); bsm runs no code of an artifact, so `bsm pack`, which writes the safe"
    " formats, cannot read such a file either"
)
"""Advice for a file that refers to forbidden code."""


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the named files that exists; None if none does."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def require(folder: Path, *required: Sequence[str]) -> list[Path]:
    """Return the first existing file of each group of names.

    Raises:
        MissingArtifactFilesError: Groups have no file; the error lists all of them.
    """
    found = [find(folder, names) for names in required]
    missing = [" or ".join(reversed(names)) for names, path in zip(required, found, strict=True) if path is None]
    if missing:
        raise MissingArtifactFilesError(
            f"the artifact lacks {len(missing)} file(s)",
            where=str(folder),
            details=missing,
            fix=f"give the folder that holds these files, or a {ARCHIVE} that does; check that training finished",
        )
    return [path for path in found if path]


def require_artifact(folder: Path) -> None:
    """Check that a folder has the files that every artifact has. Without them, the error lists missing tables as well.

    Raises:
        MissingArtifactFilesError: Files are missing.
    """
    if any(find(folder, names) is None for names in REQUIRED):
        try:
            require(folder, *REQUIRED, *TABLES)
        except MissingArtifactFilesError as error:
            if scattered := _scattered(list_files(folder)):
                error.details = (*error.details, *scattered)
                error.fix = "put the files of one model into one folder, and give this folder, or an archive of it"
            elif (folder / "config.json").is_file() and find(folder, (HYPERPARAMETERS, MODEL_ARTIFACTS)) is None:
                error.details = (*error.details, "found config.json: a model of transformers")
                error.fix = (
                    "if it is a classifier, `bsm import FOLDER NEW --text-column COLUMN` makes an artifact of it"
                )
            elif find(folder, WEIGHTS) is None and (foreign := foreign_weights(list_files(folder))):
                error.details = (*error.details, foreign[0])
                error.fix = f"{foreign[1]}; then give the folder with all files"
            raise


def _scattered(names: Iterable[str]) -> list[str]:
    """Return a line for each folder that holds files of an artifact, if there are several such folders."""
    found: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        if any(file in group for group in REQUIRED) and "/" not in folder:
            found.setdefault(f"{folder}/" if folder else "the top", []).append(file)
    return [f"found in {place}: {', '.join(files)}" for place, files in found.items()] if len(found) > 1 else []


def is_pointer(path: Path) -> bool:
    """Return whether a file is a pointer of Git LFS: a few lines of text in place of the file that they name."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_POINTER:
            return False
        return path.read_bytes().startswith(_POINTER)
    except OSError:  # whoever reads the file says why it cannot be read
        return False


def refuse_pointers(folder: Path, files: Iterable[Path], name: str | None = None) -> None:
    """If one of the files is a pointer of Git LFS, raise an error that lists all pointers of the folder.

    Args:
        folder: The folder.
        files: Files that cannot be read, or that are read by code that takes a pointer for content.
        name: Name of the folder in the error; its path if None.

    Raises:
        CorruptArtifactError: A file is a pointer.
    """
    if any(map(is_pointer, files)):
        pointers = [path for path, file in list_files(folder).items() if is_pointer(file)]
        raise CorruptArtifactError(
            f"{len(pointers)} file(s) are pointers of Git LFS, without the content that they stand for",
            where=name or str(folder),
            details=pointers,
            fix="run `git lfs install` and `git lfs pull` in the repository that the folder was cloned from, and copy"
            " the files again",
        )


def read_json_object(path: Path, name: str | None = None, most_bytes: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: The file.
        name: Name of the file in errors; its file name if None.
        most_bytes: Size above which the file is not read.

    Raises:
        CorruptArtifactError: The file is not JSON, holds something other than an object, or exceeds a limit.
    """
    where = name or path.name
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ValueError(f"it is larger than {most_bytes >> 20} MiB")
        if content.count(b"[") + content.count(b"{") > _MOST_BRACKETS or content.count(b",") > _MOST_COMMAS:
            raise ValueError("it holds too many values")
        # json.loads makes a text of the whole content first, which takes up to four times the memory of the file.
        value = json.loads(content) if len(content) <= _LARGEST_SMALL_JSON else from_json(content, cache_strings="none")
        check_nesting(value, _MOST_BRACKETS)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        refuse_pointers(path.parent, [path])
        raise corrupt(where, f"cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise corrupt(where, f"holds a {type(value).__name__}, not an object")
    return value


def read_validated(
    path: Path, model: type[M], *, most_bytes: int, refuse: Callable[[list[str]], CorruptArtifactError]
) -> M | None:
    """Read a JSON file that may come from anyone into a pydantic model.

    Args:
        path: The file.
        model: Model of the content.
        most_bytes: Size above which the file is not read.
        refuse: Makes the error from the problems, one line each.

    Returns:
        The model; None if there is no such file.

    Raises:
        CorruptArtifactError: The file cannot be read, or its content does not fit the model.
    """
    if not path.exists():
        return None
    try:
        if not path.is_file():  # reading a pipe would block
            raise refuse(["it is a directory" if path.is_dir() else "it is not a file"])
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise refuse([f"it is larger than {most_bytes >> 20} MiB"])
        return model.model_validate_json(content)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValidationError as error:
        problems = [_line(problem) for problem in problems_of(error)]
        more = len(problems) - _PROBLEMS_NAMED
        named = [*problems[:_PROBLEMS_NAMED], *([f"and {more} more"] if more > 0 else [])]
        raise refuse(named) from error


def _line(problem: Problem) -> str:
    return str(Problem(printable(str(problem.key), _LONGEST_KEY), problem.message))


def write_validated(
    path: Path, content: BaseModel, *, most_bytes: int, what: str, fix: str, error: type[BSMError]
) -> None:
    """Write a pydantic model as JSON, if :func:`read_validated` can read it again. Equal models produce equal bytes.

    Args:
        path: The file.
        content: The content.
        most_bytes: Size above which the file is not written.
        what: Subject and verb of the error, ``"the check rows take"`` for example.
        fix: Advice on how to make the content smaller.
        error: Class of the error for a content that is too large.
    """
    written = (content.model_dump_json(indent=2) + "\n").encode()
    if len(written) > most_bytes:
        size = f"{len(written) / 2**20:.1f} MiB, more than the limit of {most_bytes >> 20} MiB"
        raise error(f"{what} {size}", where=path.name, fix=fix)
    path.write_bytes(written)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        ArtifactError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def corrupt(where: str, problem: str, fix: str | None = None, *, details: Sequence[str] = ()) -> CorruptArtifactError:
    """Return the error for a file, or a place in a file, that is damaged or has unexpected content.

    Args:
        where: Name of the file, or of the file and the key.
        problem: What is wrong with it, as the end of a sentence that begins with ``where``.
        fix: Advice on how to solve the problem.
        details: Further lines.
    """
    return CorruptArtifactError(f"{where} {problem}", where=where, fix=fix, details=details)


def unreadable(path: Path, error: OSError) -> ArtifactError:
    """Return the error for a file that the system does not let us read."""
    reason, fix = why_unreadable(error)
    return ArtifactError(f"{path.name} cannot be read: {reason}", where=str(path), fix=fix)


def list_files(folder: Path) -> dict[str, Path]:
    """Return every file of a folder and its subfolders by relative name, sorted, without hidden files and folders."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix(): folder / file for file in files if not any(part.startswith(".") for part in file.parts)}


def exported(folder: Path) -> dict[str, Path]:
    """Return the ONNX file of each exported encoder, by the encoder's name in the model."""
    return {path.stem: path for path in sorted((folder / EXPORTED).glob("*.onnx")) if path.is_file()}


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ino


class FileHashes(Mapping[str, str]):
    """SHA-256 of each file of a folder, by relative name.

    A file is read when its hash is first asked for, and the hash is kept. The files are those at the first use.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}
        self._states: dict[str, tuple[int, int, int]] = {}

    @cached_property
    def _files(self) -> dict[str, Path]:
        return list_files(self._folder)

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._states[name] = _state(self._files[name])
            self._known[name] = sha256(self._files[name])
        return self._known[name]

    def changed(self) -> list[str]:
        """Return the files that were changed, replaced or removed since they were read for their hashes."""
        return [name for name, state in self._states.items() if _state(self._files[name]) != state]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
