"""Recognizing a file by its first bytes, where its name says something else or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 1 << 16
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli"}
"""Arrow's name of each compression of text files, by extension."""
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",  # before that of UTF-16, with which it begins
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_UNMARKED = re.compile(
    rb"(?P<utf_32_le>(?:[^\0]\0\0\0){2})|(?P<utf_32_be>(?:\0\0\0[^\0]){2})"
    rb"|(?P<utf_16_le>(?:[^\0]\0){3})|(?P<utf_16_be>(?:\0[^\0]){3})"
)
"""Beginning of text in UTF-16 or UTF-32 without a byte order mark, with characters of Latin-1."""


class FileKind(NamedTuple):
    """Kind of a file.

    Attributes:
        what: What the file is, such as ``"a zip archive"``.
        fix: What its owner can do.
        settings: Settings with which it can be read; see :class:`~bsm_core.errors.BSMError`.
    """

    what: str
    fix: str
    settings: Sequence[Mapping[str, str]] = ()


_NAMED = "name the file with {} at the end"
_AS_TABLE = "write the table as CSV, TSV, JSON lines or Parquet"
_PARQUET = FileKind("a Parquet file", _NAMED.format(".parquet"))
_TEXT = FileKind("text", _NAMED.format(".csv, .tsv or .jsonl"))
_JSON_LINES = FileKind("JSON lines", _NAMED.format(".jsonl"))
_JSON_ARRAY = FileKind(
    "one JSON array", "write one object on each line, as pandas does with to_json(orient='records', lines=True)"
)
_WORKBOOK = FileKind("an Excel workbook", "save the sheet as CSV in UTF-8")
_JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
_TEXTS = (".csv", ".tsv", *_JSON_LINES_SUFFIXES)
_PARQUETS = (".parquet", ".pq", ".parq")
_PACKED = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\x04\x22\x4d\x18": ".lz4",
}
_BINARY = {
    b"PAR1": _PARQUET,
    b"PARE": FileKind("an encrypted Parquet file", "write it without encryption"),
    b"ORC": FileKind("an ORC file", _AS_TABLE),
    b"Obj\x01": FileKind("an Avro file", _AS_TABLE),
    b"SEQ": FileKind("a Hadoop sequence file", _AS_TABLE),
    b"ARROW1": FileKind("an Arrow (Feather) file", _AS_TABLE),
    b"SQLite format 3": FileKind("an SQLite database", _AS_TABLE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _WORKBOOK,
    b"\xfd7zXZ": FileKind("packed with xz", "unpack the file"),
}
_WEB_PAGE = re.compile(rb"<(?:!doctype html|html)\b", re.IGNORECASE)


def kind_of(head: bytes) -> FileKind | None:
    """Return the kind of a file that is no CSV or TSV, from its first bytes; None if it may be such a file.

    Args:
        head: First bytes of the file, at most :data:`HEAD_BYTES`.
    """
    if head.startswith(b"PK\x03\x04"):
        is_workbook = b"[Content_Types].xml" in head or b"xl/" in head
        return _WORKBOOK if is_workbook else FileKind("a zip archive", "unpack the file")
    if suffix := _suffix_of(head):
        return FileKind(f"packed with {CODECS[suffix]}", _NAMED.format(suffix))
    if not is_text(head):  # a header may begin with one of these letters, such as SEQ
        return next((kind for magic, kind in _BINARY.items() if head.startswith(magic)), None)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return FileKind("a pointer of Git LFS", "get the file itself with `git lfs pull`")
    if _WEB_PAGE.match(text):
        return FileKind("a web page", "download the table again: the page may be a login or an error")
    if text.startswith(b"<?xml"):
        return FileKind("an XML document", "download or export the table again, as CSV")
    if re.match(rb"\[\s*[{\]]", text):
        return _JSON_ARRAY
    return _JSON_LINES if re.match(rb'\{\s*["}]', text) else None


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file may be text, in whatever encoding."""
    return b"\0" not in head or head.startswith(tuple(_BYTE_ORDER_MARKS))


def wide_text(head: bytes) -> FileKind | None:
    """Return the kind of a text in UTF-16 or UTF-32, with or without a byte order mark; None if it is something else.

    Args:
        head: First bytes of the text.
    """
    name = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    without = ""
    if name is None and (match := _UNMARKED.match(head)):
        name, without = str(match.lastgroup).replace("_", "-"), " without a byte order mark"
    if name is None:
        return None
    return FileKind(f"text in {name[:6].upper()}{without}", "save the file as UTF-8", [{"csv_encoding": name}])


def misnamed(path: Path) -> FileKind | None:
    """Return the kind of a file whose content is not what its name says.

    Args:
        path: A file that could not be read, whose header has none of the expected columns, or whose extension is not
            known.

    Returns:
        The kind, or None if the name is right or the kind is unknown.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    outer, kind = path.suffix.lower(), kind_of(head)
    if outer in CODECS:
        if outer == _suffix_of(head) or (outer == ".br" and kind is None):
            return None
        return kind or FileKind(f"not packed with {CODECS[outer]}", f"name the file without {outer}")
    if kind is None and (wide := wide_text(head)):
        if outer in _JSON_LINES_SUFFIXES:
            return wide._replace(settings=())
        return wide if outer in ("", *_TEXTS) else _TEXT
    if outer not in _TEXTS:  # as text, it may be anything
        right = outer in _PARQUETS and kind == _PARQUET
        return (
            None if right or not head else kind or (_TEXT if is_text(head) and outer in (*_PARQUETS, ".txt") else None)
        )
    return None if kind in (_JSON_LINES, _JSON_ARRAY) and outer in _JSON_LINES_SUFFIXES else kind


def _suffix_of(head: bytes) -> str | None:
    """Return the extension of the compression of a file; None if there is none, or none that is known."""
    found = next((suffix for magic, suffix in _PACKED.items() if head.startswith(magic)), None)
    return None if found == ".bz2" and not head[3:4].isdigit() else found
