"""Reading and writing ``provenance.json``: what made an artifact, and the SHA-256 of its other files.

:mod:`bsm_core.scoring.provenance` makes the record and compares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bsm_core.artifact.files import FileHashes, corrupt, read_validated, write_validated
from bsm_core.errors import ArtifactError, CorruptArtifactError
from bsm_core.runtime.versions import current_name

PROVENANCE = "provenance.json"
MOST_BYTES = 16 * 2**20
"""Limit on the size of the file: an artifact may come from anyone."""

_Word = Annotated[str, Field(pattern=r"^\P{C}+$", max_length=300)]
"""Short text without control characters: ``bsm inspect`` and errors print it on a terminal."""


class ComponentRecord(BaseModel):
    """Component as it was used.

    Attributes:
        kind: ``"model_class"`` or ``"step"``; in a run record also ``"guard"`` and ``"observer"``.
        name: Name in the config.
        column: Text column, of a step.
        distribution: Name of the distribution that provides the component.
        version: Version of this distribution.
        object: ``"module:Class"``.
        source: SHA-256 of the file that defines the class; None if there is no such file.
        given: Parameters in the config.
        used: All parameters: those of the config, those that the artifact provides, and defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: _Word
    name: _Word
    column: str | None = None
    distribution: Annotated[_Word, AfterValidator(current_name)]
    version: _Word
    object: _Word
    source: str | None = None
    given: dict[str, Any] = {}
    used: dict[str, Any] = {}


class Provenance(BaseModel):
    """Record of what made an artifact.

    Attributes:
        format: Version of the file format.
        components: The model class, then the steps of each text field.
        versions: Versions of the libraries, as :func:`bsm_core.runtime.versions.installed` returns them.
        files: SHA-256 of every other file of the artifact, by relative name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    components: Annotated[list[ComponentRecord], Field(max_length=1000)]
    versions: Annotated[dict[Annotated[_Word, AfterValidator(current_name)], _Word], Field(max_length=64)]
    files: Annotated[dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]], Field(max_length=10_000)]


def write_provenance(folder: Path, components: list[ComponentRecord], versions: dict[str, str]) -> None:
    """Write the record into an artifact's folder, with the hashes of all other files. Equal folders get equal bytes.

    Raises:
        ArtifactError: The record is too large to be read again.
    """
    provenance = Provenance(components=components, versions=versions, files=other_files(FileHashes(folder)))
    what, fix = "the record of what made the artifact takes", "shorten the long lists in the config"
    write_validated(folder / PROVENANCE, provenance, most_bytes=MOST_BYTES, what=what, fix=fix, error=ArtifactError)


def other_files(digests: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of all files but the record itself. In a name that is not Unicode, odd bytes are escaped."""
    named = {name.encode(errors="backslashreplace").decode(): digest for name, digest in digests.items()}
    return {name: digest for name, digest in named.items() if name != PROVENANCE}


def read_provenance(folder: Path) -> Provenance | None:
    """Return the record of an artifact; None if it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or does not hold a record; the error lists what is wrong.
    """
    return read_validated(folder / PROVENANCE, Provenance, most_bytes=MOST_BYTES, refuse=_refuse)


def _refuse(problems: list[str]) -> CorruptArtifactError:
    fix = "make a new one with `bsm pack MODEL_DIR NEW`, or remove the file"
    return corrupt(PROVENANCE, "does not hold a record of what made this artifact", fix, details=problems)
