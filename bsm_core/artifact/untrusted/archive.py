"""Getting at an artifact's files, whatever holds them.

Archives are extracted by our own code: the data filter of ``tarfile`` has been bypassed on Pythons that are still in
use. ``tarfile`` only reads the headers here, and never writes a file.
"""

from __future__ import annotations

import gzip
import io
import os
import re
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
from bsm_core.errors import (
    ArtifactError,
    BSMError,
    CorruptArtifactError,
    MissingArtifactFilesError,
    UnsafeArtifactError,
)

_BLOCK = 1 << 20
_ZEROS = bytes(tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        members: Number of files and folders.
        size: Bytes, extracted.
        ratio: Extracted bytes for each compressed byte; looked at once ``free`` bytes have been read.
        free: Bytes below which the ratio does not matter.
        header: Bytes of one member's header, its extensions included.
    """

    members: int = 10_000
    size: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    header: int = 1 << 20


LIMITS = Limits()


@contextmanager
def unpacked(path: Path, limits: Limits = LIMITS) -> Iterator[Path]:
    """Give a folder that holds the artifact's files.

    Args:
        path: A folder with the files, a folder with ``model.tar.gz`` (which then wins), or a ``.tar.gz`` file. It may
            be read-only: an archive is extracted into a private temporary folder, which is removed afterwards.
        limits: What an archive may hold.

    Yields:
        The folder; where an archive holds everything in one top-level folder, that one.

    Raises:
        MissingArtifactFilesError: Nothing is there.
        CorruptArtifactError: The archive is damaged, or is not the one its ``.sha256`` is for.
        UnsafeArtifactError: A member of the archive would leave the folder, is no plain file, or is too large.
    """
    path = Path(path)
    archive = path / ARCHIVE if path.is_dir() else path
    if path.is_dir() and not archive.is_file():
        yield path
        return
    if not archive.is_file():
        raise MissingArtifactFilesError(
            "there is no artifact", where=str(path), fix="give its folder, or the path of its model.tar.gz"
        )
    with tempfile.TemporaryDirectory(prefix="bsm-artifact-") as folder:
        _extract(archive, Path(folder), limits)
        yield _step_into(Path(folder))


def _step_into(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _check_sha256(archive: Path) -> None:
    """Compare the archive with the ``.sha256`` file beside it, if there is one."""
    beside = archive.with_name(archive.name + ".sha256")
    if not beside.is_file():
        return
    text = beside.read_bytes()[:4096].decode("utf-8", "replace")
    match = re.fullmatch(r"\s*([0-9a-fA-F]{64})(?:\s+\*?(\S+))?\s*", text)
    if match is None or (match[2] and Path(match[2]).name != archive.name):
        raise CorruptArtifactError(
            f"{beside.name} is not the SHA-256 of {archive.name}",
            where=str(beside),
            fix="get both again from whoever packed the archive: only there is it known what it should be",
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
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as plain:
            stream = _Metered(plain, raw, limits, where)
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=_StrictInfo, encoding="utf-8", errors="surrogateescape"
            ) as tar:
                _Extraction(tar, stream, folder, limits, where).run()
    except BSMError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise CorruptArtifactError(
            f"{archive.name} is damaged or no gzip-compressed tar archive: {error}",
            where=where,
            fix="copy the archive again, or pack the artifact again",
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{archive.name} cannot be extracted: {error.strerror or error}",
            where=where,
            fix=f"check that it can be read and that {tempfile.gettempdir()} has room, or set TMPDIR to another folder",
        ) from error


class _Metered(io.RawIOBase):
    """The decompressed bytes of an archive, counted as they are read."""

    def __init__(self, plain: gzip.GzipFile, raw: BinaryIO, limits: Limits, where: str) -> None:
        super().__init__()
        self._plain, self._raw, self._limits, self._where = plain, raw, limits, where
        self._read = 0
        self.header_left: int | None = limits.header  # tarfile reads the first header when it opens the archive

    def read(self, size: int = -1) -> bytes:
        data = self._plain.read(size)
        self._read += len(data)
        if self.header_left is not None:
            self.header_left -= len(data)
            if self.header_left < 0:
                raise _unsafe("a member's header", f"is larger than {self._limits.header:,} bytes", self._where)
        if self._read > self._limits.size:
            raise _unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        if self._read > self._limits.free and self._read > self._limits.ratio * self._raw.tell():
            raise _unsafe("the archive", f"is compressed more than {self._limits.ratio} times", self._where)
        return data


class _StrictInfo(tarfile.TarInfo):
    """Header reading that takes a damaged header for damage; ``tarfile`` takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictInfo:
        if buf != _ZEROS:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                raise tarfile.ReadError(str(error)) from error
        return super().frombuf(buf, encoding, errors)


class _Extraction:
    """One archive on its way into a fresh folder."""

    def __init__(self, tar: tarfile.TarFile, stream: _Metered, folder: Path, limits: Limits, where: str) -> None:
        self._tar, self._stream, self._folder, self._limits, self._where = tar, stream, folder, limits, where
        self._members = 0
        self._spelling: dict[str, str] = {}  # by folded name: two names that some file system takes for one
        self._files: set[str] = set()

    def run(self) -> None:
        while (member := self._next()) is not None:
            self._members += 1
            if self._members > self._limits.members:
                raise _unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
                raise _unsafe(repr(member.name), "is neither a plain file nor a folder", self._where)
            if not 0 <= member.size <= self._limits.size:
                raise _unsafe(repr(member.name), f"claims {member.size:,} bytes", self._where)
            parts = self._parts(member.name)
            self._claim(member, parts)
            if member.isdir():
                self._make_folder(parts)
            else:
                self._make_folder(parts[:-1])
                self._write(member, self._folder.joinpath(*parts))
        self._finish()

    def _next(self) -> tarfile.TarInfo | None:
        self._stream.header_left = self._limits.header
        member = self._tar.next()
        self._stream.header_left = None
        return member

    def _parts(self, name: str) -> list[str]:
        """The name's parts, or an error if it is not a plain relative one."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise _unsafe(repr(name), "leaves the artifact's folder", self._where)
        if "\\" in name or re.match("[A-Za-z]:", name) or not name.isprintable():
            raise _unsafe(repr(name), "has a name that not every system reads alike", self._where)
        return parts

    def _claim(self, member: tarfile.TarInfo, parts: list[str]) -> None:
        """Refuse a member whose place, or a folder above it, was taken by another one."""
        if not parts and member.isdir():
            return  # "./", the folder itself
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            is_file = depth == len(parts) and not member.isdir()
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
            known = self._spelling.setdefault(key, name)
            if known != name or key in self._files or (is_file and self._folder.joinpath(*parts).exists()):
                raise _unsafe(repr(member.name), f"takes the place of {known!r}", self._where)
            if is_file:
                self._files.add(key)
        if not parts:
            raise _unsafe(repr(member.name), "is a file without a name", self._where)

    def _make_folder(self, parts: list[str]) -> None:
        folder = self._folder
        for part in parts:
            folder /= part
            if not folder.is_dir():
                folder.mkdir(mode=0o700)

    def _write(self, member: tarfile.TarInfo, path: Path) -> None:
        source = self._tar.extractfile(member)
        if source is None:
            raise _unsafe(repr(member.name), "is no plain file", self._where)
        left = member.size
        # O_EXCL: the file must be new, and a link is never followed.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while left > 0:
                data = source.read(min(left, _BLOCK))
                if not data:
                    raise tarfile.ReadError(f"unexpected end of data in {member.name!r}")
                left -= target.write(data)

    def _finish(self) -> None:
        """Read on to the very end: the gzip checksum stands there, and nothing but padding may come before it."""
        rest = self._tar.fileobj
        while data := rest.read(_BLOCK) if rest else b"":
            if data.strip(b"\0"):
                raise tarfile.ReadError("there is data behind the end of the archive")


def _unsafe(member: str, problem: str, where: str) -> UnsafeArtifactError:
    return UnsafeArtifactError(
        f"{member} {problem}",
        where=where,
        fix="nothing was loaded; pack the artifact again with `bsm pack`, from a source that you trust",
    )
