"""``provenance.json``: what made an artifact, and the SHA-256 of its other files.

This is the file alone; :mod:`bsm_core.scoring.provenance` makes it and compares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bsm_core.artifact.files import read_validated
from bsm_core.errors import ArtifactError, CorruptArtifactError
from bsm_core.runtime.versions import current_name

PROVENANCE = "provenance.json"
MOST_BYTES = 16 * 2**20
"""An artifact is data from somewhere else."""

_Word = Annotated[str, Field(pattern=r"^\P{C}+$", max_length=300)]
"""Something short, without control characters: `bsm inspect` and errors repeat it to a terminal."""


class ComponentRecord(BaseModel):
    """A component as it was used.

    Attributes:
        kind: ``"model_class"`` or ``"step"``; in a run record also ``"guard"`` and ``"observer"``.
        name: The name that the config has.
        column: The text column, of a step.
        distribution, version: Who provides it.
        object: ``"module:Class"``.
        source: SHA-256 of the file that has the class; None where there is no such file.
        given: The parameters that the config gives.
        used: All its parameters: those, what the artifact provides, and defaults.
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
    """What made an artifact.

    Attributes:
        format: Version of the file's format.
        components: The model class, then the steps of each text field.
        versions: What :func:`bsm_core.runtime.versions.installed` gave.
        files: SHA-256 of every other file of the artifact, by relative name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    components: Annotated[list[ComponentRecord], Field(max_length=1000)]
    versions: Annotated[dict[Annotated[_Word, AfterValidator(current_name)], _Word], Field(max_length=64)]
    files: Annotated[dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]], Field(max_length=10_000)]


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write it into an artifact's folder; the same content gives the same bytes.

    Raises:
        ArtifactError: It is too large to be read again.
    """
    content = (provenance.model_dump_json(indent=2) + "\n").encode()
    if len(content) > MOST_BYTES:
        raise ArtifactError(
            f"what made the artifact takes {len(content) / 2**20:.1f} MiB to say, more than {MOST_BYTES >> 20}",
            where=PROVENANCE,
            fix="leave long lists out of the config",
        )
    (folder / PROVENANCE).write_bytes(content)


def other_files(digests: Mapping[str, str]) -> dict[str, str]:
    """The digests of all files but the record; a name that is no Unicode is spelt out."""
    named = {name.encode(errors="backslashreplace").decode(): digest for name, digest in digests.items()}
    return {name: digest for name, digest in named.items() if name != PROVENANCE}


def read_provenance(folder: Path) -> Provenance | None:
    """The record of an artifact; None where it has none.

    Raises:
        CorruptArtifactError: The file cannot be read, or is not what it should be; it lists what is wrong.
    """
    return read_validated(folder / PROVENANCE, Provenance, most_bytes=MOST_BYTES, corrupt=_corrupt)


def _corrupt(problems: list[str]) -> CorruptArtifactError:
    return CorruptArtifactError(
        f"{PROVENANCE} does not say what made this artifact",
        where=PROVENANCE,
        details=problems,
        fix="make it anew with `bsm pack MODEL_DIR NEW`, or remove it",
    )
