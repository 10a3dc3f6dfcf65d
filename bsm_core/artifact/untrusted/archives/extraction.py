"""Extraction of the members of an archive that an artifact needs; their headers are read in ``tar_members``.

``tarfile`` extracts nothing here: its data filter can be bypassed on Python versions that are still in use.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from bsm_core.artifact.files import REQUIRED, find
from bsm_core.artifact.untrusted.archives.layout import (
    home,
    is_beside,
    is_kept,
    is_sign,
    is_wanted,
    looks_like_an_artifact,
)
from bsm_core.artifact.untrusted.archives.limits import PACK, Limits, unsafe
from bsm_core.artifact.untrusted.archives.tar_members import Member, Members
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import MissingArtifactFilesError, UnsafeArtifactError, short_repr

log = logging.getLogger("bsm")

_NAMED = 5
_WORK_OF_CHARACTER = 1 << 10
"""Work of a character of a normalized name; one character of a name can become 18 of them."""
_DEREFERENCE = "pack the files themselves: `tar --dereference --hard-dereference -C FOLDER -czf model.tar.gz .`"
_LOCALE = "set the environment variable PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8, to read an archive"
_LONGEST = 255
"""Bytes of the longest name of a file on common file systems."""
_TOO_LONG = "has a name that is too long for the file system"
_RENAME = "rename the file, and pack the files again"
_SLASHES = f"pack the files again, with '/' in the names of the members and no backslash: {PACK}"


class Extraction:
    """Extraction of members of one archive into a new folder.

    Args:
        archive: The archive, compressed with gzip or not compressed.
        folder: The folder.
        limits: Limits on the content.
        where: The archive, for errors.

    Attributes:
        files: Files that were extracted, by their path in the archive.
    """

    def __init__(self, archive: BinaryIO, folder: Path, limits: Limits, where: str) -> None:
        self.files: dict[tuple[str, ...], Path] = {}
        self._members = Members(archive, limits, where)
        self._folder, self._limits, self._where = folder, limits, where
        self._links: dict[tuple[str, ...], list[Path]] = {}  # to members that were passed over, by the member
        self._folders: dict[tuple[int, str], int] = {}  # number of a folder, by that of the one around it and its name
        self._places: dict[tuple[int, str], str] = {}  # what has a place, by the folder around it and the folded name
        self._passed_over: list[str] = []
        self._backslashed: list[str] = []
        self._extracted = 0
        self._holds_more = False

    @property
    def home(self) -> Path:
        """Folder of the artifact."""
        return self._folder.joinpath(*home(self.files))

    def run(self) -> None:
        """Extract the members that are read."""
        for member, parts in self._each():
            if is_wanted(parts) and not member.is_folder:
                self._take(member, parts)
            else:
                self._skip(member, parts)
        if not self._links:
            return
        filled: set[tuple[str, ...]] = set()
        for member, parts in self._each():
            if parts in filled:  # tar would take the one that is the last before the link
                raise unsafe(short_repr(member.name), "is in the archive twice, and a link leads to it", self._where)
            if parts in self._links:
                filled.add(parts)
                self._fill(member, self._links.pop(parts))
        if self._links:
            target = "/".join(next(iter(self._links)))
            raise unsafe(short_repr(target), "is what a link leads to, and is not in the archive", self._where)

    def keep(self) -> None:
        """Extract the other files in the folder of an artifact that :meth:`run` found whole.

        Nothing about these files is an error: a warning says which of them are left out.
        """
        if not (self._holds_more and all(find(self.home, names) for names in REQUIRED)):
            return
        top, left_out = home(self.files), 0
        problems: dict[str, None] = {}
        for member, parts in self._each():
            if member.is_folder or not is_kept(parts, top):
                continue
            try:
                self._check_extracted(self._extracted + member.size)  # before a part of it is written
                self._take(member, parts)
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

    def _each(self) -> Iterator[tuple[Member, tuple[str, ...]]]:
        """Read the archive from its beginning to its end; provide each member with its path, split at the slashes."""
        for member in self._members:
            yield member, _parts(member.name)

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

    def _take(self, member: Member, parts: tuple[str, ...]) -> None:
        self._check_path(member.name, parts)
        name = short_repr(member.name)
        is_link = member.type == tarfile.LNKTYPE
        if not (is_link or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.is_sparse:
            raise unsafe(name, "is neither a plain file nor a folder", self._where, _DEREFERENCE)
        target = _parts(member.target)
        if is_link:
            self._check_path(member.target, target)
            if target == parts:
                raise unsafe(name, "is a link to itself", self._where)
        try:
            path = self.files[parts] = self._claim(member.name, parts)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise unsafe(name, _TOO_LONG, self._where, _RENAME) from error
        source = self.files.get(target)
        if not is_link:
            self._write([path])
        elif source and source.exists():  # a link may lead to a link whose content is not there yet
            self._copy(source, path)
        else:
            self._links.setdefault(target, []).append(path)

    def _fill(self, member: Member, paths: list[Path]) -> None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.is_sparse:
            problem = "is what a link leads to, and no plain file"
            raise unsafe(short_repr(member.name), problem, self._where, _DEREFERENCE)
        self._write(paths)

    def _skip(self, member: Member, parts: tuple[str, ...]) -> None:
        if not is_beside(parts):
            self._check_path(member.name, parts, strict=False)
        self._holds_more = self._holds_more or (not member.is_folder and is_kept(parts, ()))
        if "\\" in member.name and looks_like_an_artifact(_parts(member.name.replace("\\", "/"))):
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
        if strict:
            self._check_encoding(name)

    def _check_encoding(self, name: str) -> None:
        """Check that the file system can hold the names in a path."""
        try:
            longest = max(map(len, os.fsencode(name).split(b"/")))
        except UnicodeEncodeError as error:
            problem = f"has a name that cannot be written in this locale, whose encoding is {error.encoding}"
            raise unsafe(short_repr(name), problem, self._where, _LOCALE) from error
        if longest > _LONGEST:
            raise unsafe(short_repr(name), _TOO_LONG, self._where, _RENAME)

    def _claim(self, member: str, parts: tuple[str, ...]) -> Path:
        """Make the folders of a file and return its path; raise if another member has it, or is a file in its way."""
        if not parts:
            raise unsafe(short_repr(member), "is a file without a name", self._where)
        around = 0
        for depth, part in enumerate(parts, 1):
            is_file = depth == len(parts)
            if not is_file and (around, part) in self._folders:
                around = self._folders[around, part]
                continue
            if len(self._places) >= self._limits.members:
                raise unsafe("the archive", f"holds more than {self._limits.members:,} members", self._where)
            name, place = "/".join(parts[:depth]), (around, self._folded(part))
            path = self._folder / name
            if place in self._places or (is_file and path.exists()):
                known = self._places.get(place, name)
                raise unsafe(short_repr(member), f"has the same place as {short_repr(known)}", self._where)
            if not is_file:
                path.mkdir(mode=0o700, exist_ok=True)
                self._folders[around, part] = around = len(self._places) + 1
            self._places[place] = name
        return self._folder.joinpath(*parts)

    def _folded(self, name: str) -> str:
        """Return a form of a name that is equal for names that some file system confuses."""
        if name.isascii():
            return name.casefold()
        whole = unicodedata.normalize("NFKC", name)
        self._members.count(_WORK_OF_CHARACTER * len(whole))
        return unicodedata.normalize("NFKC", whole.casefold())

    def _write(self, paths: Sequence[Path]) -> None:
        first, *others = paths
        # O_EXCL: the file must be new, so that no link is followed.
        with os.fdopen(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            while data := self._members.read():
                self._count(len(data))
                target.write(data)
        for other in others:
            self._copy(first, other)

    def _copy(self, source: Path, target: Path) -> None:
        """Copy a file to the place of a link that leads to it; a copy counts as the file does."""
        size = source.stat().st_size
        self._count(size)
        self._members.count(size)
        shutil.copyfile(source, target)

    def _count(self, size: int) -> None:
        self._check_extracted(self._extracted + size)  # what does not fit is not written, and does not count
        self._extracted += size

    def _check_extracted(self, size: int) -> None:
        """Check a number of extracted bytes, with copies, alone and against the size of the archive."""
        if size > self._limits.size:
            raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        if size > self._limits.free and size > self._limits.ratio * self._members.size:
            raise unsafe("the archive", f"is compressed more than {self._limits.ratio} times", self._where)


def _parts(path: str) -> tuple[str, ...]:
    """Split a path at its slashes."""
    return tuple([part for part in path.split("/") if part not in ("", ".")])
