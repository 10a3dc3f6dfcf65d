"""Extraction of an artifact's archive.

``tarfile`` only reads the headers here and never writes a file: its data filter can be bypassed on Python versions that
are still in use.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bsm_core.artifact.files import ARCHIVE, sha256
from bsm_core.artifact.temporary import temporary_folder
from bsm_core.errors import (
    ArtifactError,
    BSMError,
    CorruptArtifactError,
    MissingArtifactFilesError,
    UnsafeArtifactError,
    short_repr,
)

_BLOCK = 1 << 20
_MOST_PAX_WORK = 1_000_000_000
"""Squares of the sizes of extended headers in bytes, added up: the largest one has 31,000 bytes."""


@dataclass(frozen=True)
class Limits:
    """Limits on the content of an archive.

    Attributes:
        members: Number of files and folders, with those that only the names of others mention.
        size: Bytes, extracted.
        ratio: Extracted bytes for each compressed byte; checked after the first ``free`` bytes.
        free: Extracted bytes below which the ratio is not checked.
        header: Bytes of one member's header, including its extensions.
        name: Characters of a member's name.
        depth: Folders around a member.
    """

    members: int = 10_000
    size: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    header: int = 1 << 20
    name: int = 1_000
    depth: int = 20


LIMITS = Limits()


@contextmanager
def unpacked(path: Path, limits: Limits = LIMITS) -> Iterator[Path]:
    """Provide a folder with the artifact's files. An archive is extracted into a temporary folder, removed at the end.

    Args:
        path: A folder with the files, a folder with ``model.tar.gz`` (whose content is used then), or a ``.tar.gz``
            file. It may be read-only.
        limits: Limits on the content of an archive.

    Yields:
        The folder. If the archive has everything in one top-level folder, this is that folder.

    Raises:
        MissingArtifactFilesError: There is no file or folder at ``path``.
        CorruptArtifactError: The archive is damaged, or its ``.sha256`` file is for another archive.
        UnsafeArtifactError: A member of the archive would be written outside the folder, is not a plain file, or
            exceeds a limit.
    """
    path = Path(path)
    archive = path / ARCHIVE if path.is_dir() else path
    if path.is_dir() and not archive.is_file():
        yield path
        return
    if not archive.is_file():
        raise MissingArtifactFilesError(
            "there is no artifact", where=str(path), fix="give the path of its folder or of its model.tar.gz"
        )
    with temporary_folder() as folder:
        _extract(archive, folder, limits)
        inner = _step_into(folder)
        try:
            yield inner
        except BSMError as error:
            _name_archive(error, inner, archive)
            raise


def _name_archive(error: BSMError, folder: Path, archive: Path) -> None:
    """Name the archive in an error in place of the temporary folder, which is gone when the error is read."""

    def named(text: str) -> str:
        return text.replace(str(folder), str(archive))

    error.what, error.details = named(error.what), tuple(map(named, error.details))
    error.where, error.fix = error.where and named(error.where), error.fix and named(error.fix)


def _step_into(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _check_sha256(archive: Path) -> None:
    """Check the archive by the ``.sha256`` file beside it, if there is one."""
    beside = archive.with_name(archive.name + ".sha256")
    if not beside.is_file():
        return
    text = os.fsdecode(beside.read_bytes()[:4096])
    match = re.fullmatch(r"\s*([0-9a-fA-F]{64})(?:\s+\*?(\S.*?))?\s*", text, re.DOTALL)  # a name may have spaces
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


def _extract(archive: Path, folder: Path, limits: Limits) -> None:
    where = str(archive)
    try:
        _check_sha256(archive)
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=(packed := _Compressed(raw, where)), mode="rb") as plain:
            stream = _Metered(plain, packed, limits, where)
            with _StrictTar.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
                _Extraction(tar, stream, folder, limits, where).run()
    except ArtifactError:
        raise
    except _LongHeadersError:
        problem = "has extended headers that are too long: names of members have very many characters or folders"
        raise _unsafe("the archive", problem, where) from None
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
        raise CorruptArtifactError(
            f"{archive.name} is damaged, or not a gzip-compressed tar archive: {error}",
            where=where,
            fix="copy the archive again, or pack the artifact again",
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{archive.name} cannot be extracted: {error.strerror or error}",
            where=where,
            fix=f"check that it can be read and that {tempfile.gettempdir()} has enough free space, or set TMPDIR to"
            " another folder",
        ) from error


class _Compressed(io.RawIOBase):
    """Compressed bytes of an archive. gzip's members without content are refused: each takes time and yields nothing.

    Attributes:
        taken: Number of bytes that were read.
        made: Number of bytes that were made of them.
    """

    def __init__(self, raw: BinaryIO, where: str) -> None:
        super().__init__()
        self._raw, self._where = raw, where
        self.taken = self.made = 0

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.taken += len(data)
        if self.taken > 1.1 * self.made + 2 * _BLOCK:
            raise _unsafe("the archive", "has very many compressed pieces that are almost empty", self._where)
        return data


class _Metered(io.RawIOBase):
    """Decompressed bytes of an archive, checked against the limits as they are read."""

    def __init__(self, plain: gzip.GzipFile, packed: _Compressed, limits: Limits, where: str) -> None:
        super().__init__()
        self._plain, self._packed, self._limits, self._where = plain, packed, limits, where
        self._read = 0
        self.header_left: int | None = limits.header  # tarfile reads the first header when it opens the archive

    def read(self, size: int = -1) -> bytes:
        data = self._plain.read(size)
        self._read += len(data)
        self._packed.made = self._read
        if self.header_left is not None:
            self.header_left -= len(data)
            if self.header_left < 0:
                raise _unsafe("a member's header", f"is larger than {self._limits.header:,} bytes", self._where)
        if self._read > self._limits.size:
            raise _unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        if self._read > self._limits.free and self._read > self._limits.ratio * self._packed.taken:
            raise _unsafe("the archive", f"is compressed more than {self._limits.ratio} times", self._where)
        return data


class _LongHeadersError(Exception):
    """The extended headers of an archive are too long."""


class _StrictInfo(tarfile.TarInfo):
    """Header of a member. A damaged one is an error; ``tarfile`` takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):  # zeros: the end of the archive
                raise
            raise tarfile.ReadError(str(error)) from error

    def _proc_pax(self, tar: _StrictTar) -> tarfile.TarInfo:
        # In Python before 3.11.10 and 3.12.6 the time to parse this header grows with the square of its size.
        tar.pax_work += self.size**2
        if tar.pax_work > _MOST_PAX_WORK:
            raise _LongHeadersError
        header: tarfile.TarInfo = super()._proc_pax(tar)  # type: ignore[misc]
        return header


class _StrictTar(tarfile.TarFile):
    tarinfo = _StrictInfo
    pax_work = 0


class _Extraction:
    """Extraction of one archive into a new folder."""

    def __init__(self, tar: tarfile.TarFile, stream: _Metered, folder: Path, limits: Limits, where: str) -> None:
        self._tar, self._stream, self._folder, self._limits, self._where = tar, stream, folder, limits, where
        self._spelling: dict[str, str] = {}  # by folded name, which is equal for names that some file system confuses
        self._files: set[str] = set()

    def run(self) -> None:
        for count, member in enumerate(iter(self._next, None), start=1):
            if count > self._limits.members:
                raise _unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
                raise _unsafe(short_repr(member.name), "is neither a plain file nor a folder", self._where)
            if not 0 <= member.size <= self._limits.size:
                raise _unsafe(short_repr(member.name), f"claims {member.size:,} bytes", self._where)
            parts = self._parts(member.name)
            self._claim(member, parts)
            if not member.isdir():
                self._write(member, self._folder.joinpath(*parts))
        self._finish()

    def _next(self) -> tarfile.TarInfo | None:
        self._stream.header_left = self._limits.header
        member = self._tar.next()
        self._stream.header_left = None
        return member

    def _parts(self, name: str) -> list[str]:
        """Split a member's name at its slashes; raise if it is not a plain relative path."""
        if len(name) > self._limits.name:
            raise _unsafe(short_repr(name), f"has a name of {len(name):,} characters", self._where)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if len(parts) > self._limits.depth:
            raise _unsafe(short_repr(name), f"lies in more than {self._limits.depth} folders", self._where)
        if name.startswith("/") or ".." in parts:
            raise _unsafe(short_repr(name), "would be written outside the artifact's folder", self._where)
        if "\\" in name or re.match("[A-Za-z]:", name) or not name.isprintable():
            raise _unsafe(short_repr(name), "has a name that is not the same on every system", self._where)
        return parts

    def _claim(self, member: tarfile.TarInfo, parts: list[str]) -> None:
        """Make the member's folders; raise if another member has its path, or is a file where a folder is needed."""
        if not parts and member.isdir():
            return  # "./", the folder itself
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            is_file = depth == len(parts) and not member.isdir()
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
            known, path = self._spelling.setdefault(key, name), self._folder / name
            if len(self._spelling) > self._limits.members:
                raise _unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            if known != name or key in self._files or (is_file and path.exists()):
                raise _unsafe(short_repr(member.name), f"has the same place as {short_repr(known)}", self._where)
            if is_file:
                self._files.add(key)
            else:
                path.mkdir(mode=0o700, exist_ok=True)
        if not parts:
            raise _unsafe(short_repr(member.name), "is a file without a name", self._where)

    def _write(self, member: tarfile.TarInfo, path: Path) -> None:
        source = self._tar.extractfile(member)
        if source is None:
            raise _unsafe(short_repr(member.name), "is not a plain file", self._where)
        # O_EXCL: the file must be new, so that no link is followed.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            shutil.copyfileobj(source, target, _BLOCK)

    def _finish(self) -> None:
        """Read to the end, where gzip checks its checksum; raise if anything but padding comes before it."""
        rest = self._tar.fileobj
        while data := rest.read(_BLOCK) if rest else b"":
            if data.strip(b"\0"):
                raise tarfile.ReadError("there is data after the end of the archive")


def _unsafe(member: str, problem: str, where: str) -> UnsafeArtifactError:
    return UnsafeArtifactError(
        f"{member} {problem}",
        where=where,
        fix="nothing was loaded; pack the artifact again with `bsm pack`, from a source that you trust",
    )
