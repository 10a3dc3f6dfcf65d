"""Which files of an archive or a folder are the artifact's, and in which folder the artifact lies."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import translate
from pathlib import Path

from bsm_core.artifact.check_rows import SELF_CHECK
from bsm_core.artifact.features.explanation_background import EXPLANATION_BACKGROUND
from bsm_core.artifact.features.feature_scaling import FEATURE_SCALING
from bsm_core.artifact.files import EXPORTED, IMPUTE, REQUIRED, RISK_TABLES, TRAINING_METRICS, find
from bsm_core.artifact.pretrained_files import ENCODER, TOKENIZER
from bsm_core.artifact.provenance_file import PROVENANCE
from bsm_core.artifact.training_distributions import TRAINING_DISTRIBUTIONS

log = logging.getLogger("bsm")

ARCHIVES = ("model.tar.gz", "model.tgz", "model.tar")
"""Names of an archive in a folder, best first."""
_NEVER = ("code", "logs")
"""Folders that other tools put beside the files of a model; nothing in them is read."""
_WEIGHTS = (".bin", ".ckpt", ".distcp", ".h5", ".msgpack", ".pt", ".pth", ".safetensors", ".safetensors.index.json")
_SIGNS = frozenset(name for names in REQUIRED for name in names)
_OWN = _SIGNS | {*RISK_TABLES, *IMPUTE, FEATURE_SCALING}
_OWN |= {SELF_CHECK, PROVENANCE, TRAINING_METRICS, TRAINING_DISTRIBUTIONS, EXPLANATION_BACKGROUND}
_OTHERS = re.compile("|".join(map(translate, {*TOKENIZER.files, *ENCODER.files})))


def is_read(name: str) -> bool:
    """Return whether a file of an artifact is read, by its path relative to the artifact's folder."""
    first, slash, inner = name.partition("/")
    if "/." in f"/{name}" or (slash and first in _NEVER):
        return False
    if name in _OWN:
        return True
    if first == EXPORTED and inner and "/" not in inner:
        return name.endswith(".onnx")
    return _OTHERS.match(name.rpartition("/")[2]) is not None


def is_wanted(parts: Sequence[str]) -> bool:
    """Return whether a member of an archive is read if the artifact lies at the top, or in a folder at the top."""
    first, _, inner = (name := "/".join(parts)).partition("/")
    return is_read(name) or (first not in _NEVER and is_read(inner))


def wanted_of_folder(names: Iterable[str], *, keep: bool) -> list[str]:
    """Return the files of a folder that are read: the archive in it, with its checksum, or the artifact's files.

    Args:
        names: Paths of all files, relative to the folder.
        keep: Whether the files that are not read are wanted as well, if they are not hidden.
    """
    visible = [name for name in names if "/." not in f"/{name}"]
    archives = {name for archive in ARCHIVES for name in (archive, f"{archive}.sha256")}
    if ARCHIVES[0] in visible:
        return [name for name in visible if name.startswith(ARCHIVES[0]) and name in archives]
    return [name for name in visible if keep or name in archives or is_wanted(name.split("/"))]


def is_kept(parts: Sequence[str], top: Sequence[str]) -> bool:
    """Return whether a member of an archive is not read, and packed all the same, as other files of an artifact are.

    Args:
        parts: Path of the member, split at the slashes.
        top: Path of the artifact's folder.
    """
    inner = parts[len(top) :]
    left_out = (len(inner) > 0 and inner[0] in _NEVER) or "/." in f"/{'/'.join(inner)}"
    return tuple(parts[: len(top)]) == tuple(top) and not (left_out or is_wanted(parts))


def is_beside(parts: Sequence[str]) -> bool:
    """Return whether a member of an archive lies in a folder that other tools put beside an artifact."""
    return any(part in _NEVER for part in parts[:2]) and parts[0] != ".."


def is_sign(name: str) -> bool:
    """Return whether a path is that of a file that every artifact has, in whatever folder."""
    return name.rpartition("/")[2] in _SIGNS


def looks_like_an_artifact(parts: Sequence[str]) -> bool:
    """Return whether a member that is not read has the name of an artifact's file, or holds weights."""
    return bool(parts) and (parts[-1] in _SIGNS or parts[-1].endswith(_WEIGHTS))


def home(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the folder of the artifact among files: empty if it is at the top, else the one folder that holds it.

    Args:
        names: Paths of files, split at their slashes.
    """
    tops = {parts[:-1] for parts in map(tuple, names) if len(parts) <= 2 and parts[-1] in _SIGNS}
    folders = [top for top in tops if top and top[0] not in _NEVER and not top[0].startswith(".")]
    return folders[0] if () not in tops and len(folders) == 1 else ()


def archive_in(folder: Path) -> Path | None:
    """Return the archive in a folder that is read in place of the folder's own files; None if there is none.

    An archive of a name other than the first one counts only where files of the artifact are lacking: it may be left
    over from how the folder came there.
    """
    found = next((folder / name for name in ARCHIVES if (folder / name).is_file()), None)
    if found is None or found.name == ARCHIVES[0]:
        return found
    return None if all(find(artifact_in(folder), names) for names in REQUIRED) else found


def warn_of_loose_files(archive: str, is_there: Callable[[str], bool]) -> None:
    """Log a warning if files of an artifact lie beside the archive that is read in their place.

    Args:
        archive: Name of the archive.
        is_there: Function that returns whether the archive's folder has a file of a name.
    """
    if loose := sorted(filter(is_there, _OWN)):
        log.warning("%s is read, and not the files beside it: %s; remove what is old", archive, ", ".join(loose))


def artifact_in(folder: Path) -> Path:
    """Return the folder of an artifact: the given one, or the one folder in it that holds the artifact's files."""
    try:
        inner: Collection[Path] = [path for path in folder.iterdir() if path.is_dir()]
        found = [(path.name, sign) for path in inner for sign in _SIGNS if (path / sign).is_file()]
    except OSError:  # whoever reads the folder says why it cannot be read
        return folder
    own = [(sign,) for sign in _SIGNS if (folder / sign).is_file()]
    return folder.joinpath(*home([*own, *found]))
