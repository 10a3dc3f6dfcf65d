"""Limits on the content of an archive, and the error for an archive that exceeds them or is unsafe otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from bsm_core.errors import UnsafeArtifactError

PACK = "`tar -C FOLDER -czf model.tar.gz .`"
"""Command that packs an artifact."""
_AGAIN = "pack the folder that training saved, not an archive: `bsm pack FOLDER model.tar.gz`"
LESS = "pack the files of the artifact alone, without logs and data: `bsm pack FOLDER model.tar.gz`"
"""Advice for an archive that holds too much."""


@dataclass(frozen=True)
class Limits:
    """Limits on the content of an archive.

    Attributes:
        members: Number of files and folders that are extracted.
        size: Bytes of all members, and of all files that are extracted: a hard link is a file of its own.
        ratio: Extracted bytes for each byte of the archive; checked after the first ``free`` bytes.
        free: Extracted bytes below which the ratio is not checked.
        work: Work of reading the archive, also what is not extracted, each time that it is read: a byte that is
            unpacked or copied counts as 1, a byte of a header as 16, and some things as the bytes that take as long.
        work_ratio: Further work for each byte of the archive.
        header: Bytes of one member's header, including its extensions.
        path: Characters of every path in a header, also in folders that are not read, such as ``logs/``.
        name: Characters of the path of a member outside such folders.
        depth: Folders around such a member.
    """

    members: int = 10_000
    size: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    work: int = 5 << 29
    work_ratio: int = 10
    header: int = 1 << 20
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
