"""Members of a tar archive, in one pass from its first byte to its last.

``tarfile`` parses single blocks here, and no more: it reads a damaged header as the end of an archive, takes sizes from
extended headers that contradict the header itself, and copies the records of global headers for every member. See
"pax Interchange Format" in POSIX.1-2017 (``pax``) and "Basic Tar Format" in the manual of GNU tar.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from bsm_core.artifact.untrusted.archives.limits import Limits, unsafe
from bsm_core.errors import short_repr

_BLOCK = 1 << 20
_HEADER = tarfile.BLOCKSIZE
_ZEROS = bytes(_HEADER)
_ENCODING = "utf-8", "surrogateescape"
_MARK_AT, _MARK = 257, b"ustar"
"""Mark of a tar archive that is not compressed."""
_LONG = {tarfile.GNUTYPE_LONGNAME: b"path", tarfile.GNUTYPE_LONGLINK: b"linkpath"}
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, *_LONG)
_MATTERS = re.compile(rb"path|linkpath|size|GNU\.sparse\..*", re.DOTALL)
"""Keys of the records that matter here; the others are about owners, times and attributes of files."""
_MOST_DIGITS, _MOST_DIGITS_OF_A_SIZE = 8, 20
_LINE_FEED = ord("\n")
_MOST_IN_HEADER = 8**11 - 1
"""The largest size that every header can hold; a larger one is in a record."""
_TABLE_GOES_ON, _TABLE_GOES_ON_AGAIN = 482, 504
"""Places of the byte that says that the table of a sparse file goes on: in the header, and in the blocks after it."""


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


class Members:
    """The members of an archive: a loop over this object yields the header of each, once.

    Args:
        archive: The archive, compressed with gzip or not compressed; it is read from its beginning.
        limits: Limits on its content.
        where: The archive, for errors.

    Raises:
        UnsafeArtifactError: The archive exceeds a limit.
        tarfile.TarError: The archive is damaged.
        OSError, EOFError, zlib.error: It cannot be read, or its compressed bytes are damaged.
    """

    def __init__(self, archive: BinaryIO, limits: Limits, where: str) -> None:
        self._limits, self._where = limits, where
        is_plain = _is_plain(archive)
        self._packed = _Packed(archive, where)
        self._plain = cast("BinaryIO", self._packed if is_plain else gzip.GzipFile(fileobj=self._packed, mode="rb"))
        self._header_left = self._content_left = self._padding = 0
        self._extensions = self._records = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._next()) is not None:
            yield member
            while self.read():  # what the caller has left
                pass
            self._exactly(self._padding)
        while rest := self._some(_BLOCK):  # to the end, where gzip checks its checksum
            if rest.strip(b"\0"):
                raise tarfile.ReadError("there is data after the end of the archive")

    def read(self) -> bytes:
        """Read more of the content of the current member; nothing at its end."""
        data = self._exactly(min(_BLOCK, self._content_left))
        self._content_left -= len(data)
        return data

    def _some(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._packed.made += len(data)
        if self._packed.made > self._limits.size:
            raise unsafe("the archive", f"holds more than {self._limits.size:,} bytes", self._where)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._some(size)
        if len(data) < size:
            raise tarfile.ReadError("unexpected end of data")
        return data

    def _next(self) -> tarfile.TarInfo | None:
        """Read the extensions of a header and the header; None at the end of the archive."""
        self._header_left = self._limits.header
        records: dict[bytes, bytes] = {}  # that matter
        long: dict[bytes, bytes] = {}
        block = self._header_bytes(_HEADER)
        if block == _ZEROS:
            return None
        while (header := _header(block)).type in _EXTENSIONS:
            self._extensions += 1
            if self._extensions > self._limits.extensions:
                raise unsafe("the archive", f"has more than {self._limits.extensions:,} extended headers", self._where)
            body = self._header_bytes(header.size + -header.size % _HEADER)[: header.size]
            if header.type in _LONG:
                long[_LONG[header.type]] = body.partition(b"\0")[0]
            elif header.type != tarfile.XGLTYPE:
                records |= self._read_records(body)
            elif self._read_records(body):
                raise tarfile.ReadError("an extended header for all members has a name or a size")
            block = self._header_bytes(_HEADER)
        if header.type == tarfile.GNUTYPE_SPARSE:
            self._pass_over_table(block)
        self._begin(header, long | records)
        return header

    def _header_bytes(self, size: int) -> bytes:
        self._header_left -= size
        if self._header_left < 0:
            raise unsafe("a member's header", f"is larger than {self._limits.header:,} bytes", self._where)
        return self._exactly(size)

    def _read_records(self, body: bytes) -> dict[bytes, bytes]:
        """Return the records of an extended header that matter: ``length key=value``, each with a line feed."""
        found, start = {}, 0
        while start < len(body):
            self._records += 1
            if self._records > self._limits.records:
                raise unsafe("the archive", f"has more than {self._limits.records:,} records in headers", self._where)
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

    def _begin(self, header: tarfile.TarInfo, records: dict[bytes, bytes]) -> None:
        """Complete a header with the records about it, and make its content the one that is read next."""
        if path := records.get(b"GNU.sparse.name") or records.get(b"path"):
            header.name = _text(path)
        if link := records.get(b"linkpath"):
            header.linkname = _text(link)
        name = short_repr(header.name)
        is_sparse = header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith(b"GNU.sparse.") for key in records)
        header.sparse = b"" if is_sparse else None  # what ``issparse`` reads
        if digits := records.get(b"size"):
            size = int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS_OF_A_SIZE else -1
            if size != header.size and size <= _MOST_IN_HEADER:
                raise tarfile.ReadError(f"{name} has two sizes")
            header.size = size
        if header.size > self._limits.size:
            raise unsafe(name, f"claims {header.size:,} bytes", self._where)
        has_content = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES
        self._content_left = header.size if has_content else 0
        self._padding = -self._content_left % _HEADER


def _is_plain(archive: BinaryIO) -> bool:
    """Return whether an archive is not compressed, and go to its beginning."""
    archive.seek(0)
    start = archive.read(_MARK_AT + len(_MARK))
    archive.seek(0)
    return start[_MARK_AT:] == _MARK and not start.startswith(b"\x1f\x8b")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, *_ENCODING)
    except tarfile.HeaderError as error:
        raise tarfile.ReadError(f"the header of a member cannot be read: {error}") from error
    if header.size < 0:
        raise tarfile.ReadError("the header of a member cannot be read: its size is negative")
    return header


def _text(name: bytes) -> str:
    return name.decode(*_ENCODING)
