"""Members of a tar archive, in one pass from its first byte to its last.

``tarfile`` gives the names of types and errors here, and no more: it reads a damaged header as the end of an archive,
an odd number as zero, and the times in a header of GNU tar as a folder; it takes sizes from records that contradict
the header, and has no limit on records. See "pax Interchange Format" in POSIX.1-2017 (``pax``) and "Basic Tar Format"
in the manual of GNU tar.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bsm_core.artifact.untrusted.archives.limits import Limits, unsafe
from bsm_core.artifact.untrusted.archives.plain_bytes import PlainBytes
from bsm_core.errors import short_repr

_BLOCK = 1 << 20
_MOST_AFTER_END = 64 << 20
_HEADER = tarfile.BLOCKSIZE
_ZEROS = bytes(_HEADER)
_NAME, _SIZE, _SUM, _TYPE, _LINK, _MARK, _PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157), slice(157, 257), slice(257, 263), slice(345, 500)
)  # fmt: skip
"""Places in a header."""
_NUMBER = re.compile(rb" *([0-7]+)[ \0]*")
_POSIX = b"ustar\0"
"""Mark of a header that has a prefix of its name; GNU tar has times there, and another mark."""
_LABEL, _LISTING = b"V", b"D"
"""Types by GNU tar: the name of a whole archive, and a folder with the names of its files."""
_LONG = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
_OF_ONE_MEMBER = {tarfile.XHDTYPE, *_LONG}
_EXTENSIONS = {*_OF_ONE_MEMBER, tarfile.XGLTYPE}
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_MATTERS = re.compile(rb"path|linkpath|size|GNU\.sparse\..*", re.DOTALL)
"""Keys of the records that matter here; the others are about owners, times and attributes of files."""
_MOST_DIGITS, _MOST_DIGITS_OF_A_SIZE = 8, 20
_LINE_FEED = ord("\n")
_CUT = "unexpected end of data"
_MOST_IN_HEADER = 8**11 - 1
"""The largest size that every header can hold; a larger one is in a record."""
_TABLE_GOES_ON, _TABLE_GOES_ON_AGAIN = 482, 504
"""Places of the byte that says that the table of a sparse file goes on: in the header, and in the blocks after it."""
_ASCII = bytes(range(128))
_WORK_OF_BYTE, _WORK_OF_RECORD = 16, 512
"""Work of a byte of a header, and of a record in it."""


@dataclass(slots=True)
class Member:
    """Header of a member.

    Attributes:
        name: Its path in the archive.
        target: Path that a link leads to.
        type: Type, as the constants of ``tarfile``.
        size: Bytes of its content in the archive.
        is_sparse: Whether the content is a sparse file, which has a table of its pieces.
    """

    name: str
    target: str
    type: bytes
    size: int
    is_sparse: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the member is a folder."""
        return self.type in (tarfile.DIRTYPE, _LISTING)


class Members:
    """The members of an archive: each loop over this object reads the archive from its beginning to its end.

    Args:
        archive: The archive, compressed with gzip or not compressed.
        limits: Limits on its content. Its ``work`` is that of all loops.
        where: The archive, for errors.

    Attributes:
        size: Bytes of the archive as it is.
        count: Function that counts work beside that of reading; see :class:`Limits`.

    Raises:
        UnsafeArtifactError: The archive exceeds a limit.
        tarfile.TarError: The archive is damaged.
        OSError, EOFError, zlib.error: It cannot be read, or its compressed bytes are damaged.
    """

    def __init__(self, archive: BinaryIO, limits: Limits, where: str) -> None:
        self._limits, self._where = limits, where
        self._plain = PlainBytes(archive, _is_plain(archive), limits, where)
        self.size, self.count = self._plain.size, self._plain.count
        self._header_left = self._content_left = self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        self._plain.rewind()
        while (member := self._next()) is not None:
            if member.type != _LABEL:
                yield member
            while self.read():  # what the caller has left
                pass
            self._exactly(self._padding)
        after = 0
        while rest := self._plain.read(_BLOCK):  # to the end, where gzip checks its checksum
            after += len(rest)
            if rest.strip(b"\0"):
                raise tarfile.ReadError("there is data after the end of the archive")
            if after > _MOST_AFTER_END:
                raise unsafe("the archive", f"has more than {_MOST_AFTER_END:,} bytes after its end", self._where)

    def read(self) -> bytes:
        """Read more of the content of the current member; nothing at its end."""
        if not self._content_left:
            return b""
        data = self._plain.read(self._content_left)
        if not data:
            raise tarfile.ReadError(_CUT)
        self._content_left -= len(data)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._plain.read(size) if size else b""
        while len(data) < size:
            more = self._plain.read(size - len(data))
            if not more:
                raise tarfile.ReadError(_CUT)
            data += more
        return data

    def _next(self) -> Member | None:
        """Read the extensions of a header and the header; None at the end of the archive."""
        self._header_left = self._limits.header
        records: dict[bytes, bytes] = {}  # that matter
        long: dict[bytes, bytes] = {}
        seen: set[bytes] = set()
        while (block := self._header_bytes(_HEADER)) != _ZEROS:
            member = _member(block)
            if member.type not in _EXTENSIONS:
                if member.type == tarfile.GNUTYPE_SPARSE:
                    self._pass_over_table(block)
                self._begin(member, long | records)
                return member
            body = self._header_bytes(member.size + -member.size % _HEADER)[: member.size]
            if member.type in seen:
                raise tarfile.ReadError("a member has two extended headers of one kind")
            seen |= {member.type} & _OF_ONE_MEMBER
            if member.type in _LONG:
                long[_LONG[member.type]] = body.partition(b"\0")[0]
            elif member.type == tarfile.XHDTYPE:
                records = self._read_records(body)
            elif member.type == tarfile.XGLTYPE and self._read_records(body):
                raise tarfile.ReadError("an extended header for all members has a record about the content of one")
        if seen:
            raise tarfile.ReadError("the last extended header belongs to no member")
        return None

    def _header_bytes(self, size: int) -> bytes:
        self._header_left -= size
        if self._header_left < 0:
            raise unsafe("a member's header", f"is larger than {self._limits.header:,} bytes", self._where)
        self.count(_WORK_OF_BYTE * size)
        return self._exactly(size)

    def _read_records(self, body: bytes) -> dict[bytes, bytes]:
        """Return the records of an extended header that matter: ``length key=value``, each with a line feed."""
        found, start = {}, 0
        while start < len(body):
            self.count(_WORK_OF_RECORD)
            length, space, _ = body[start : start + _MOST_DIGITS].partition(b" ")
            end = start + int(length) if space and length.isdigit() else 0
            key, mark, value = body[start + len(length) + 1 : end - 1].partition(b"=")
            if not (start < end <= len(body) and mark and body[end - 1] == _LINE_FEED):
                raise tarfile.ReadError("the header of a member cannot be read: a record has a wrong length")
            if _MATTERS.fullmatch(key):
                found[key] = value
            start = end
        return found

    def _pass_over_table(self, block: bytes) -> None:
        """Read the blocks after the header of a sparse file in GNU tar's old form, in which its table goes on."""
        goes_on = block[_TABLE_GOES_ON]
        while goes_on:
            goes_on = self._header_bytes(_HEADER)[_TABLE_GOES_ON_AGAIN]

    def _begin(self, member: Member, records: dict[bytes, bytes]) -> None:
        """Complete a header with the records about it, and make its content the one that is read next."""
        if path := records.get(b"GNU.sparse.name") or records.get(b"path"):
            member.name = _text(path)
        if link := records.get(b"linkpath"):
            member.target = _text(link)
        if max(len(member.name), len(member.target)) > self._limits.path:
            raise unsafe(short_repr(member.name), f"has a path of over {self._limits.path:,} characters", self._where)
        if "\0" in member.name + member.target:
            raise tarfile.ReadError(f"a path has the character NUL: {short_repr(member.name)}")
        sparse = any(key.startswith(b"GNU.sparse.") for key in records)
        member.is_sparse = sparse or member.type == tarfile.GNUTYPE_SPARSE
        if digits := records.get(b"size"):
            member.size = _size_of(member, digits)
        if member.size > self._limits.size:
            raise unsafe(short_repr(member.name), f"claims {member.size:,} bytes", self._where)
        if member.type in _FILES and member.name.endswith("/"):  # a folder in the oldest form of tar
            if member.size:
                raise tarfile.ReadError(f"{short_repr(member.name)} is a folder, and has content")
            member.type = tarfile.DIRTYPE
        if member.is_folder:
            member.name = member.name.rstrip("/")  # Python packs a folder without a name as "/"
        has_content = member.type in tarfile.REGULAR_TYPES or member.type not in tarfile.SUPPORTED_TYPES
        self._content_left = member.size if has_content else 0
        self._padding = -self._content_left % _HEADER


def _is_plain(archive: BinaryIO) -> bool:
    """Return whether an archive is not compressed, and go to its beginning."""
    archive.seek(0)
    start = archive.read(_HEADER)
    archive.seek(0)
    return not start.startswith(b"\x1f\x8b") and _is_sum_right(start)


def _is_sum_right(block: bytes) -> bool:
    """Return whether a header has the sum of its bytes; old programs took them for signed numbers."""
    if len(block) < _HEADER or not (match := _NUMBER.fullmatch(block[_SUM])):
        return False
    others = _sum(block[:256]) + _sum(block[256:]) - sum(block[_SUM]) + 8 * ord(" ")
    left = others - int(match[1], 8)
    return left == 0 or left == 256 * len(block.translate(None, _ASCII))


def _sum(data: bytes) -> int:
    """Return the sum of 256 bytes at most, which Adler-32 has in its lower half, plus 1."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _member(block: bytes) -> Member:
    """Return what a header says."""
    if not _is_sum_right(block):
        raise tarfile.ReadError("the header of a member cannot be read: bad checksum")
    kind = tarfile.XHDTYPE if block[_TYPE] == tarfile.SOLARIS_XHDTYPE else block[_TYPE]
    size, digits = block[_SIZE], _NUMBER.fullmatch(block[_SIZE])
    if not (digits or size == bytes(12) or size[:1] == b"\x80"):
        what = "its size is negative" if size[:1] == b"\xff" else "its size is no number"
        raise tarfile.ReadError(f"the header of a member cannot be read: {what}")
    number = int(digits[1], 8) if digits else int.from_bytes(size[1:])
    name, link = block[_NAME].partition(b"\0")[0], block[_LINK].partition(b"\0")[0]
    if block[_MARK] == _POSIX and kind not in (*_LONG, tarfile.GNUTYPE_SPARSE):
        prefix = block[_PREFIX].partition(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    return Member(_text(name), _text(link), kind, number)


def _size_of(member: Member, digits: bytes) -> int:
    """Return the size in a record, which must be that of the header, or too large for it."""
    if not digits.isdigit() or len(digits) > _MOST_DIGITS_OF_A_SIZE:
        raise tarfile.ReadError(f"{short_repr(member.name)} has a size that is no number")
    if (size := int(digits)) != member.size and size <= _MOST_IN_HEADER:
        raise tarfile.ReadError(f"{short_repr(member.name)} has two sizes")
    return size


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
