"""Extraction of the members of an archive that an artifact needs.

``tarfile`` only reads the headers here and never writes a file: its data filter can be bypassed on Python versions that
are still in use.
"""

from __future__ import annotations

import errno
import gzip
import io
import logging
import os
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from bsm_core.artifact.files import REQUIRED, find
from bsm_core.artifact.untrusted.archives.layout import (
    home,
    is_beside,
    is_kept,
    is_sign,
    is_wanted,
    looks_like_an_artifact,
)
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import MissingArtifactFilesError, UnsafeArtifactError, short_repr

log = logging.getLogger("bsm")

_BLOCK = 1 << 20
_MARK_AT, _MARK = 257, b"ustar"
"""Mark of a tar archive that is not compressed."""
_NAMED = 5
PACK = "`tar -C FOLDER -czf model.tar.gz .`"
"""Command that packs an artifact."""
_AGAIN = "pack the folder that training saved, not an archive: `bsm pack FOLDER model.tar.gz`"
_DEREFERENCE = "pack the files themselves: `tar --dereference --hard-dereference -C FOLDER -czf model.tar.gz .`"
_RENAME = "rename the file, and pack the files again"
_SLASHES = f"pack the files again, with '/' in the names of the members and no backslash: {PACK}"
_MOST_PAX_WORK = 1_000_000_000
"""Squares of the sizes of extended headers in bytes, added up: the largest one has 31,000 bytes."""


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

    def _proc_member(self, tar: _StrictTar) -> tarfile.TarInfo:
        if self.size < 0:  # tarfile would pass over members that follow
            raise tarfile.ReadError("the header of a member cannot be read: its size is negative")
        try:  # tarfile checks neither the tables of sparse files nor the lengths of records
            header: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        except (tarfile.HeaderError, IndexError, KeyError, OverflowError) as error:
            raise tarfile.ReadError(f"the header of a member cannot be read: {error}") from error
        return header

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
    """Extraction of members of one archive into a new folder.

    Args:
        folder: The folder.
        limits: Limits on the content.
        where: The archive, for errors.

    Attributes:
        files: Files that were extracted, by their path in the archive.
    """

    def __init__(self, folder: Path, limits: Limits, where: str) -> None:
        self.files: dict[tuple[str, ...], Path] = {}
        self._folder, self._limits, self._where = folder, limits, where
        self._links: dict[tuple[str, ...], list[Path]] = {}  # to members that were passed over, by the member
        self._spelling: dict[str, str] = {}  # by folded name, which is equal for names that some file system confuses
        self._claimed: set[str] = set()
        self._passed_over: list[str] = []
        self._backslashed: list[str] = []
        self._skipped = self._extracted = self._packed = 0
        self._holds_more = False

    @property
    def home(self) -> Path:
        """Folder of the artifact."""
        return self._folder.joinpath(*home(self.files))

    def run(self, archive: BinaryIO) -> None:
        """Extract the members that are read."""
        for tar, member, parts in self._members(archive):
            if is_wanted(parts) and not member.isdir():
                self._take(tar, member, parts)
            else:
                self._skip(member, parts)
        if not self._links:
            return
        for tar, member, parts in self._members(archive):
            if parts in self._links:
                self._fill(tar, member, self._links.pop(parts))
        if self._links:
            target = "/".join(next(iter(self._links)))
            raise unsafe(short_repr(target), "is what a link leads to, and is not in the archive", self._where)

    def keep(self, archive: BinaryIO) -> None:
        """Extract the other files in the folder of an artifact that :meth:`run` found whole.

        Nothing about these files is an error: a warning says which of them are left out.
        """
        if not (self._holds_more and all(find(self.home, names) for names in REQUIRED)):
            return
        top, left_out = home(self.files), 0
        problems: dict[str, None] = {}
        for tar, member, parts in self._members(archive):
            if member.isdir() or not is_kept(parts, top):
                continue
            try:
                self._check_extracted(self._extracted + member.size)  # before a part of it is written
                self._take(tar, member, parts)
                if self._links:
                    self._links.clear()
                    raise unsafe(short_repr(member.name), "is a link to a file that is not kept", self._where)
            except UnsafeArtifactError as error:
                left_out += 1
                if len(problems) < _NAMED:
                    problems[error.what] = None
        if left_out:
            named = "; ".join(problems)
            log.warning("%s: %d file(s) that bsm does not read are left out: %s", self._where, left_out, named)

    def _members(self, archive: BinaryIO) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, tuple[str, ...]]]:
        """Read an archive from its beginning to its end; provide each member with its path, split at the slashes."""
        self._packed = archive.seek(0, os.SEEK_END)
        is_plain = _is_plain(archive)
        packed = _Packed(archive, self._where)
        plain = packed if is_plain else gzip.GzipFile(fileobj=packed, mode="rb")
        stream = _Metered(cast("BinaryIO", plain), packed, self._limits, self._where)
        with _StrictTar.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := _next(tar, stream, self._limits)) is not None:
                parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
                if not (member.issparse() or 0 <= member.size <= self._limits.size):
                    raise unsafe(short_repr(member.name), f"claims {member.size:,} bytes", self._where)
                yield tar, member, parts
                _pass_over(tar)
            _to_the_end(tar)

    def explain(self, error: MissingArtifactFilesError) -> None:
        """Add to an error about missing files which members of the archive look like them."""
        if self._backslashed:
            error.details = (*error.details, *(f"the archive has {short_repr(name)}" for name in self._backslashed))
            error.fix = _SLASHES
        elif elsewhere := [name for name in self._passed_over if is_sign(name)][:_NAMED]:
            error.details = (*error.details, *(f"the archive has {name}" for name in elsewhere))
            error.fix = f"pack the files themselves: {PACK}; check that training finished"
        elif foreign := foreign_weights(self._passed_over):
            error.details = (*error.details, foreign[0])
            error.fix = f"{foreign[1]}; then pack the folder with all files"

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        self._check_path(member.name, parts)
        name = short_repr(member.name)
        is_link = member.type == tarfile.LNKTYPE
        if not (is_link or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
            raise unsafe(name, "is neither a plain file nor a folder", self._where, _DEREFERENCE)
        target = tuple(part for part in member.linkname.split("/") if part not in ("", "."))
        if is_link:
            self._check_path(member.linkname, target)
            if target == parts:
                raise unsafe(name, "is a link to itself", self._where)
        try:
            path = self.files[parts] = self._claim(member.name, parts)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise unsafe(name, "has a name that is too long for the file system", self._where, _RENAME) from error
        source = self.files.get(target)
        if not is_link:
            self._write(tar, member, [path])
        elif source and source.exists():  # a link may lead to a link whose content is not there yet
            self._copy(source, path)
        else:
            self._links.setdefault(target, []).append(path)

    def _fill(self, tar: tarfile.TarFile, member: tarfile.TarInfo, paths: list[Path]) -> None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            problem = "is what a link leads to, and no plain file"
            raise unsafe(short_repr(member.name), problem, self._where, _DEREFERENCE)
        self._write(tar, member, paths)

    def _skip(self, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        if not is_beside(parts):
            self._check_path(member.name, parts, strict=False)
        self._holds_more = self._holds_more or (is_kept(parts, ()) and not member.isdir())
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
            advice = _SLASHES if "\\" in name else _RENAME
            raise unsafe(short_repr(name), "has a name that is not the same on every system", self._where, advice)

    def _claim(self, member: str, parts: tuple[str, ...]) -> Path:
        """Make the folders of a file and return its path; raise if another member has it, or is a file in its way."""
        if not parts:
            raise unsafe(short_repr(member), "is a file without a name", self._where)
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            is_file = depth == len(parts)
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
            if key not in self._spelling and len(self._spelling) >= self._limits.members:
                raise unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            known, path = self._spelling.setdefault(key, name), self._folder / name
            if known != name or key in self._claimed or (is_file and path.exists()):
                raise unsafe(short_repr(member), f"has the same place as {short_repr(known)}", self._where)
            if is_file:
                self._claimed.add(key)
            else:
                path.mkdir(mode=0o700, exist_ok=True)
        return self._folder.joinpath(*parts)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, paths: Sequence[Path]) -> None:
        source = tar.extractfile(member)
        if source is None:
            raise unsafe(short_repr(member.name), "is not a plain file", self._where)
        first, *others = paths
        # O_EXCL: the file must be new, so that no link is followed.
        with os.fdopen(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while data := source.read(_BLOCK):
                self._count(len(data))
                target.write(data)
        for other in others:
            self._copy(first, other)

    def _copy(self, source: Path, target: Path) -> None:
        """Copy a file to the place of a link that leads to it; a copy counts as the file does."""
        self._count(source.stat().st_size)
        shutil.copyfile(source, target)

    def _count(self, size: int) -> None:
        self._check_extracted(self._extracted + size)  # what does not fit is not written, and does not count
        self._extracted += size

    def _check_extracted(self, size: int) -> None:
        """Check a number of extracted bytes, with copies, alone and against the size of the archive."""
        if size > self._limits.size:
            raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        if size > self._limits.free and size > self._limits.ratio * self._packed:
            raise unsafe("the archive", f"is compressed more than {self._limits.ratio} times", self._where)


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


def unsafe(member: str, problem: str, where: str, advice: str = _AGAIN) -> UnsafeArtifactError:
    """Return the error for a member of an archive."""
    return UnsafeArtifactError(
        f"{member} {problem}",
        where=where,
        fix=f"nothing was loaded; {advice}, from a source that you trust",
    )
