"""Limits on the content of an archive, and the error for an archive that exceeds them or is unsafe otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from bsm_core.errors import UnsafeArtifactError

PACK = "`tar -C FOLDER -czf model.tar.gz .`"
"""Command that packs an artifact."""
_AGAIN = "pack the folder that training saved, not an archive: `bsm pack FOLDER model.tar.gz`"


@dataclass(frozen=True)
class Limits:
    """Limits on the content of an archive.

    Attributes:
        members: Number of files and folders that are extracted.
        skipped: Number of further members.
        size: Bytes of all members, and of all files that are extracted: a hard link is a file of its own.
        ratio: Extracted bytes for each byte of the archive; checked after the first ``free`` bytes.
        free: Extracted bytes below which the ratio is not checked.
        header: Bytes of one member's header, including its extensions.
        extensions: Number of extensions of all headers, beside one for some bytes of the archive.
        records: Number of records in all extended headers, beside one for each byte of the archive.
        path: Characters of a member's path, also of one that is not extracted.
        name: Characters of a member's name.
        depth: Folders around a member.
    """

    members: int = 10_000
    skipped: int = 1_000_000
    size: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    header: int = 1 << 20
    extensions: int = 10_000
    records: int = 1_000_000
    path: int = 4_096
    name: int = 1_000
    depth: int = 20


def unsafe(member: str, problem: str, where: str, advice: str = _AGAIN) -> UnsafeArtifactError:
    """Return the error for a member of an archive."""
    return UnsafeArtifactError(
        f"{member} {problem}",
        where=where,
        fix=f"nothing was loaded; {advice}, from a source that you trust",
    )
