"""An artifact's folder, or its archive extracted."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsm_core.artifact.files import refuse_pointers, sha256, unreadable
from bsm_core.artifact.untrusted.archives.extraction import Extraction
from bsm_core.artifact.untrusted.archives.layout import (
    ARCHIVES,
    archive_in,
    artifact_in,
    wanted_of_folder,
    warn_of_loose_files,
)
from bsm_core.artifact.untrusted.archives.limits import PACK, Limits
from bsm_core.errors import ArtifactError, BSMError, CorruptArtifactError, MissingArtifactFilesError
from bsm_core.storage.objects import ObjectPath, place
from bsm_core.storage.temporary import download, temporary_folder

LIMITS = Limits()
_SPACE = f"check that {tempfile.gettempdir()} has enough free space, or set TMPDIR to another folder"
_KINDS = {b"PK\3\4": "a zip file", b"BZh": "compressed with bzip2", b"\xfd7zXZ": "compressed with xz"} | {
    b"\x28\xb5\x2f\xfd": "compressed with zstd"
}
"""First bytes of files that are no archive of an artifact, and what they are."""


@contextmanager
def unpacked(path: Path, limits: Limits = LIMITS, *, keep: bool = False) -> Iterator[Path]:
    """Provide a folder with the artifact's files. An archive is extracted into a temporary folder, removed at the end.

    The artifact may lie in one folder of ``path``, or of the archive. Members that are not read are not extracted.

    Args:
        path: A folder with the files, a folder with ``model.tar.gz`` (whose content is used then), or an archive:
            ``.tar.gz``, ``.tgz`` or ``.tar``. It may be read-only, and in an object store.
        limits: Limits on the content of an archive.
        keep: Extract the files of the artifact's folder that are not read as well, if it is whole. Files for which
            this cannot be done are left out, with a warning.

    Yields:
        The folder of the artifact's files.

    Raises:
        MissingArtifactFilesError: There is no file or folder at ``path``.
        CorruptArtifactError: The archive is damaged, or its ``.sha256`` file is for another archive.
        UnsafeArtifactError: A member of the archive would be written outside the folder, is not a plain file, or
            exceeds a limit.
    """
    path = place(path)
    if isinstance(path, ObjectPath):
        with temporary_folder() as folder:
            copy = _fetch(path, folder, keep)
            try:
                with unpacked(copy, limits, keep=keep) as inner:
                    yield inner
            except BSMError as error:
                _name_archive(error, copy, path)
                raise
        return
    archive = archive_in(path) if path.is_dir() else path
    if archive is None:
        yield artifact_in(path)
        return
    if not archive.is_file():
        raise MissingArtifactFilesError(
            "there is no artifact", where=str(path), fix="give the path of its folder or of its model.tar.gz"
        )
    if path.is_dir():
        warn_of_loose_files(archive.name, lambda name: (path / name).is_file())
    with temporary_folder() as folder:
        extraction = _extract(archive, folder, limits, keep)
        inner = extraction.home
        try:
            yield inner
        except BSMError as error:
            if isinstance(error, MissingArtifactFilesError):
                extraction.explain(error)
            _name_archive(error, inner, archive)
            _name_archive(error, folder, archive)
            raise


def _fetch(path: ObjectPath, folder: Path, keep: bool) -> Path:
    """Copy an artifact from an object store into a folder, and return its path there.

    Of a folder, only an archive or the files that are read are copied; with ``keep``, all but hidden ones.
    """
    if path.is_file():
        beside = path.with_name(f"{path.name}.sha256")
        files = {each.name: each for each in (path, beside) if each == path or each.is_file()}
    else:
        found = {file.relative_to(path).as_posix(): file for file in path.objects()}
        files = {f"{path.name}/{name}": found[name] for name in wanted_of_folder(found, keep=keep)}
        if ARCHIVES[0] in found:
            warn_of_loose_files(ARCHIVES[0], found.__contains__)
    try:
        download(files, folder)
    except BSMError:
        raise
    except OSError as error:
        raise ArtifactError(f"cannot be copied: {error.strerror}", where=str(path), fix=_SPACE) from error
    return folder / path.name


def _name_archive(error: BSMError, folder: Path, archive: Path) -> None:
    """Name the archive in an error in place of the temporary folder, which is gone when the error is read."""

    def named(text: str) -> str:
        return text.replace(str(folder), str(archive))

    error.what, error.details = named(error.what), tuple(map(named, error.details))
    error.where, error.fix = error.where and named(error.where), error.fix and named(error.fix)


def _check_sha256(archive: Path) -> None:
    """Check the archive by the ``.sha256`` file beside it, if there is one."""
    beside = archive.with_name(archive.name + ".sha256")
    if not beside.is_file():
        return
    text = os.fsdecode(beside.read_bytes()[:4096])
    match = re.fullmatch(r"([0-9a-fA-F]{64})(?:\s+\*?(\S.*))?", text.strip(), re.DOTALL)  # a name may have spaces
    if match is None or (match[2] and Path(match[2]).name != archive.name.strip()):
        raise CorruptArtifactError(
            f"{beside.name} is not the SHA-256 of {archive.name}",
            where=str(beside),
            fix="get the archive and its .sha256 file again, both from where the archive was packed",
        )
    actual = sha256(archive)
    if actual != match[1].lower():
        raise CorruptArtifactError(
            f"{archive.name} does not match its SHA-256",
            where=str(archive),
            details=[f"{beside.name} says {match[1].lower()}", f"the archive has {actual}"],
            fix="copy the archive again; if it was replaced on purpose, replace the .sha256 as well",
        )


def _extract(archive: Path, folder: Path, limits: Limits, keep: bool) -> Extraction:
    where = str(archive)
    try:
        refuse_pointers(archive.parent, [archive])
        _check_sha256(archive)
        with archive.open("rb") as raw:
            extraction = Extraction(raw, folder, limits, where)
            extraction.run()
            if keep:
                extraction.keep()
        return extraction
    except ArtifactError:
        raise
    except (tarfile.TarError, zlib.error, EOFError) as error:
        kind = _kind(archive)
        pack = f"unpack it, and pack the files again: {PACK}"
        raise CorruptArtifactError(
            f"{archive.name} is damaged, or not a gzip-compressed tar archive: {kind or error}",
            where=where,
            fix=pack if kind else "copy the archive again, or pack the artifact again",
        ) from error
    except OSError as error:
        if error.filename == str(archive):
            raise unreadable(archive, error) from error
        raise ArtifactError(
            f"{archive.name} cannot be extracted: {error.strerror or error}",
            where=where,
            fix=_SPACE,
        ) from error


def _kind(archive: Path) -> str | None:
    """Return what a file is that is no archive of an artifact; None if that is not known."""
    with archive.open("rb") as file:
        start = file.read(8)
    return next((f"it is {what}" for mark, what in _KINDS.items() if start.startswith(mark)), None)
