"""Extraction of the members of an archive that an artifact needs.

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
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from bsm_core.artifact.untrusted.archives.layout import is_beside, is_sign, looks_like_an_artifact
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import MissingArtifactFilesError, UnsafeArtifactError, short_repr

_BLOCK = 1 << 20
_MARK_AT, _MARK = 257, b"ustar"
"""Mark of a tar archive that is not compressed."""
_NAMED = 5
PACK = "`tar -C FOLDER -czf model.tar.gz .`"
"""Command that packs an artifact."""
_MOST_PAX_WORK = 1_000_000_000
"""Squares of the sizes of extended headers in bytes, added up: the largest one has 31,000 bytes."""


@dataclass(frozen=True)
class Limits:
    """Limits on the content of an archive.

    Attributes:
        members: Number of files and folders that are extracted.
        skipped: Number of further members.
        size: Bytes of all members, and of all files that are extracted: a hard link is a file of its own.
        ratio: Extracted bytes for each compressed byte; checked after the first ``free`` bytes.
        free: Extracted bytes below which the ratio is not checked.
        header: Bytes of one member's header, including its extensions.
        name: Characters of a member's name.
        depth: Folders around a member.
    """

    members: int = 10_000
    skipped: int = 1_000_000
    size: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    header: int = 1 << 20
    name: int = 1_000
    depth: int = 20


class _Packed(io.RawIOBase):
    """Bytes of an archive as they are in the file.

    gzip's members without content are refused: each takes time and yields nothing.

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
            raise unsafe("the archive", "has very many compressed pieces that are almost empty", self._where)
        return data


class _Metered(io.RawIOBase):
    """Decompressed bytes of an archive, checked against the limits as they are read."""

    def __init__(self, plain: BinaryIO, packed: _Packed, limits: Limits, where: str) -> None:
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
                raise unsafe("a member's header", f"is larger than {self._limits.header:,} bytes", self._where)
        if self._read > self._limits.size:
            raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        return data

    def check_extracted(self, extracted: int) -> None:
        """Check the number of extracted bytes, with copies, alone and against the compressed bytes that were read."""
        if extracted > self._limits.size:
            raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        if extracted > self._limits.free and extracted > self._limits.ratio * self._packed.taken:
            raise unsafe("the archive", f"is compressed more than {self._limits.ratio} times", self._where)


class LongHeadersError(Exception):
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
            raise LongHeadersError
        header: tarfile.TarInfo = super()._proc_pax(tar)  # type: ignore[misc]
        return header


class _StrictTar(tarfile.TarFile):
    tarinfo = _StrictInfo
    pax_work = 0


class Extraction:
    """Extraction of the members of one archive that are wanted into a new folder.

    Args:
        folder: The folder.
        limits: Limits on the content.
        where: The archive, for errors.
        wanted: Whether a file is wanted, by its path split at the slashes.

    Attributes:
        files: Files that were extracted, by their path in the archive.
        links: For each member that was passed over and that hard links need, the files that must get its content.
    """

    def __init__(self, folder: Path, limits: Limits, where: str, wanted: Callable[[Sequence[str]], bool]) -> None:
        self.files: dict[tuple[str, ...], Path] = {}
        self.links: dict[tuple[str, ...], list[Path]] = {}
        self._folder, self._limits, self._where, self._wanted = folder, limits, where, wanted
        self._spelling: dict[str, str] = {}  # by folded name, which is equal for names that some file system confuses
        self._claimed: set[str] = set()
        self._passed_over: list[str] = []
        self._backslashed: list[str] = []
        self._skipped = self._extracted = 0

    def run(self, archive: BinaryIO) -> None:
        """Extract what is wanted of the bytes of an archive; call it again if there are :attr:`links` afterwards."""
        again, self.links = self.links, {}
        filling = bool(again)
        is_plain = _is_plain(archive)
        packed = _Packed(archive, self._where)
        plain = packed if is_plain else gzip.GzipFile(fileobj=packed, mode="rb")
        stream = _Metered(cast("BinaryIO", plain), packed, self._limits, self._where)
        with _StrictTar.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := _next(tar, stream, self._limits)) is not None:
                parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
                if not (member.issparse() or 0 <= member.size <= self._limits.size):
                    raise unsafe(short_repr(member.name), f"claims {member.size:,} bytes", self._where)
                if filling and parts in again:
                    self._fill(tar, stream, member, again.pop(parts))
                elif not filling and self._wanted(parts) and not member.isdir():
                    self._take(tar, stream, member, parts)
                else:
                    self._skip(member, parts)
                _pass_over(tar)
            _to_the_end(tar)
        if again:
            target = "/".join(next(iter(again)))
            raise unsafe(short_repr(target), "is what a link leads to, and is not in the archive", self._where)

    def explain(self, error: MissingArtifactFilesError) -> None:
        """Add to an error about missing files which members of the archive look like them."""
        if self._backslashed:
            error.details = (*error.details, *(f"the archive has {short_repr(name)}" for name in self._backslashed))
            error.fix = f"pack the files again, with '/' in the names of the members and no backslash: {PACK}"
        elif elsewhere := [name for name in self._passed_over if is_sign(name)][:_NAMED]:
            error.details = (*error.details, *(f"the archive has {name}" for name in elsewhere))
            error.fix = f"pack the files themselves: {PACK}; check that training finished"
        elif foreign := foreign_weights(self._passed_over):
            error.details = (*error.details, foreign[0])
            error.fix = f"{foreign[1]}; then pack the folder with all files"

    def _take(self, tar: tarfile.TarFile, stream: _Metered, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        self._check_path(member.name, parts)
        name = short_repr(member.name)
        is_link = member.type == tarfile.LNKTYPE
        if not (is_link or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
            problem = "is neither a plain file nor a folder"
            raise unsafe(name, problem, self._where, "pack the files with `tar --dereference --hard-dereference`")
        if not is_link:
            self.files[parts] = self._claim(member.name, parts)
            self._write(tar, stream, member, [self.files[parts]])
            return
        target = tuple(part for part in member.linkname.split("/") if part not in ("", "."))
        self._check_path(member.linkname, target)
        if target == parts:
            raise unsafe(name, "is a link to itself", self._where)
        path = self.files[parts] = self._claim(member.name, parts)
        if target in self.files:
            self._copy(stream, self.files[target], path)
        else:
            self.links.setdefault(target, []).append(path)

    def _fill(self, tar: tarfile.TarFile, stream: _Metered, member: tarfile.TarInfo, paths: list[Path]) -> None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise unsafe(short_repr(member.name), "is what a link leads to, and no plain file", self._where)
        self._write(tar, stream, member, paths)

    def _skip(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if not is_beside(parts):
            self._check_path(member.name, parts, strict=False)
        self._skipped += 1
        if self._skipped > self._limits.skipped:
            raise unsafe("the archive", f"holds more than {self._limits.skipped:,} members", self._where)
        if "\\" in member.name and looks_like_an_artifact(re.split(r"[\\/]", member.name)):
            self._backslashed = [*self._backslashed, member.name][:_NAMED]
        elif looks_like_an_artifact(parts) and len(self._passed_over) < self._limits.members:
            self._passed_over.append("/".join(parts))

    def _check_path(self, name: str, parts: Sequence[str], *, strict: bool = True) -> None:
        """Check that a member's name is a plain relative path; if strict, that it is the same on every system."""
        if len(name) > self._limits.name:
            raise unsafe(short_repr(name), f"has a name of {len(name):,} characters", self._where)
        if len(parts) > self._limits.depth:
            raise unsafe(short_repr(name), f"lies in more than {self._limits.depth} folders", self._where)
        if name.startswith("/") or ".." in parts:
            raise unsafe(short_repr(name), "would be written outside the artifact's folder", self._where)
        if strict and ("\\" in name or re.match("[A-Za-z]:", name) or not name.isprintable()):
            raise unsafe(short_repr(name), "has a name that is not the same on every system", self._where)

    def _claim(self, member: str, parts: tuple[str, ...]) -> Path:
        """Make the folders of a file and return its path; raise if another member has it, or is a file in its way."""
        if not parts:
            raise unsafe(short_repr(member), "is a file without a name", self._where)
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            is_file = depth == len(parts)
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
            known, path = self._spelling.setdefault(key, name), self._folder / name
            if len(self._spelling) > self._limits.members:
                raise unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            if known != name or key in self._claimed or (is_file and path.exists()):
                raise unsafe(short_repr(member), f"has the same place as {short_repr(known)}", self._where)
            if is_file:
                self._claimed.add(key)
            else:
                path.mkdir(mode=0o700, exist_ok=True)
        return self._folder.joinpath(*parts)

    def _write(self, tar: tarfile.TarFile, stream: _Metered, member: tarfile.TarInfo, paths: Sequence[Path]) -> None:
        source = tar.extractfile(member)
        if source is None:
            raise unsafe(short_repr(member.name), "is not a plain file", self._where)
        first, *others = paths
        # O_EXCL: the file must be new, so that no link is followed.
        with os.fdopen(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while data := source.read(_BLOCK):
                self._count(stream, len(data))
                target.write(data)
        for other in others:
            self._copy(stream, first, other)

    def _copy(self, stream: _Metered, source: Path, target: Path) -> None:
        """Copy a file to the place of a link that leads to it; a copy counts as the file does."""
        self._count(stream, source.stat().st_size)
        shutil.copyfile(source, target)

    def _count(self, stream: _Metered, size: int) -> None:
        self._extracted += size
        stream.check_extracted(self._extracted)


def _is_plain(archive: BinaryIO) -> bool:
    """Return whether an archive is not compressed, and go to its beginning."""
    archive.seek(0)
    start = archive.read(_MARK_AT + len(_MARK))
    archive.seek(0)
    return start[_MARK_AT:] == _MARK and not start.startswith(b"\x1f\x8b")


def _next(tar: tarfile.TarFile, stream: _Metered, limits: Limits) -> tarfile.TarInfo | None:
    stream.header_left = limits.header
    member = tar.next()
    stream.header_left = None
    vars(tar)["members"].clear()  # a list of all members, which are never asked for again
    return member


def _pass_over(tar: tarfile.TarFile) -> None:
    """Read what is left of a member, up to its last byte: what is read when the next one is asked for is its header."""
    rest: Any = tar.fileobj
    while (left := vars(tar)["offset"] - 1 - rest.tell()) > 0:
        if not rest.read(min(left, _BLOCK)):
            raise tarfile.ReadError("unexpected end of data")


def _to_the_end(tar: tarfile.TarFile) -> None:
    """Read to the end, where gzip checks its checksum; raise if anything but padding comes before it."""
    rest = tar.fileobj
    while data := rest.read(_BLOCK) if rest else b"":
        if data.strip(b"\0"):
            raise tarfile.ReadError("there is data after the end of the archive")


def unsafe(member: str, problem: str, where: str, advice: str | None = None) -> UnsafeArtifactError:
    """Return the error for a member of an archive."""
    return UnsafeArtifactError(
        f"{member} {problem}",
        where=where,
        fix=f"nothing was loaded; {advice or 'pack the artifact again with `bsm pack`'}, from a source that you trust",
    )
