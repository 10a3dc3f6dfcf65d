"""Text files as plain CSV in UTF-8, whatever their encoding and escape character."""

from __future__ import annotations

import codecs
import re
from typing import Any

from bsm_core.errors import DataError
from bsm_core.tables.formats.dialect import Dialect

_BLOCK_BYTES = 1 << 20
_QUOTE = ord('"')


class PlainText:
    """Stream of a text file's content: UTF-8, and a quote in a quoted cell is doubled.

    Args:
        file: Stream of the file's own bytes.
        dialect: The file's encoding and escape character.
        delimiter: The character between two cells.
        path: Name of the file, for errors.
    """

    def __init__(self, file: Any, dialect: Dialect, delimiter: str, path: str) -> None:
        self._file, self._path, self._encoding = file, path, dialect.encoding
        self._decoder = codecs.getincrementaldecoder(dialect.encoding)() if dialect.encoding else None
        self._escapes = EscapedQuotes(delimiter, dialect.escape) if dialect.escape else None
        self._ready, self._began, self._ended = b"", False, False
        self._lines, self._after_cr = 0, False

    def read(self, size: int) -> bytes:
        """Return this number of bytes; fewer only at the end.

        Raises:
            DataError: Bytes are not text in the encoding.
        """
        while len(self._ready) < size and not self._ended:
            block = self._file.read(_BLOCK_BYTES)
            self._ended = not block
            self._ready += self._plain(block)
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _plain(self, block: bytes) -> bytes:
        if self._decoder is not None:
            try:
                block = self._decoder.decode(block, self._ended).encode()
            except UnicodeError as error:
                raise self._not_text(error) from error
            self._lines += line_breaks(block, self._after_cr)
            self._after_cr = block.endswith(b"\r") if block else self._after_cr
        if not self._began and block:
            self._began, block = True, block.removeprefix(codecs.BOM_UTF8)
        return block if self._escapes is None else self._escapes.plain(block, self._ended)

    def _not_text(self, error: UnicodeError) -> DataError:
        before, wrong = "", "the file is"
        if isinstance(error, UnicodeDecodeError):
            before = str(error.object[: error.start], error.encoding, "replace")
            wrong = f"the bytes {error.object[error.start : error.start + 4]!r} are"
        elif isinstance(error, UnicodeEncodeError):  # half of a surrogate pair
            before = error.object[: error.start]
            wrong = f"the character {error.object[error.start]!r} is"
        line = 1 + self._lines + line_breaks(before.encode(errors="replace"), self._after_cr)
        what = f"{wrong} not text in the encoding {self._encoding}"
        if self._ended:
            what = f"the file ends within a character of the encoding {self._encoding}: it may be cut off"
        return DataError(
            what,
            where=f"{self._path}, line {line}",
            fix="save the file as UTF-8",
            settings=[{"csv_encoding": "NAME"}],
        )


def line_breaks(block: bytes, after_cr: bool) -> int:
    r"""Return the number of line breaks in some bytes.

    Args:
        block: The bytes.
        after_cr: Whether a ``\r`` comes before them; a ``\n`` after it is no line break of its own.
    """
    found = block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
    return found - (after_cr and block.startswith(b"\n"))


class EscapedQuotes:
    r"""Translation of quotes after an escape character into doubled quotes, block by block.

    As in Spark, PostgreSQL and DuckDB, the escape character is special only in a quoted cell, and only before a quote
    or another escape character. Elsewhere it is an ordinary character.

    Args:
        delimiter: The character between two cells.
        escape: The escape character, such as ``\``.
    """

    def __init__(self, delimiter: str, escape: str) -> None:
        end, mark = re.escape(delimiter), re.escape(escape)
        self._opening = re.compile(rf'(?<=[{end}\r\n])"'.encode())
        self._content = re.compile(rf'[^"{mark}]*+(?:(?:{mark}.|"")[^"{mark}]*+)*+'.encode(), re.DOTALL)
        self._pair = re.compile(rf'{mark}(["{mark}])'.encode())
        self._rest = b"\n"  # the last byte that was translated, and bytes that wait for the next block
        self._quoted = False

    def plain(self, block: bytes, last: bool) -> bytes:
        """Return the next bytes, translated.

        Args:
            block: The next bytes of the file.
            last: Whether no others follow.
        """
        text, at, pieces = self._rest + block, 1, list[bytes]()
        while at < len(text):
            if not self._quoted:
                match = self._opening.search(text, at)
                stop = match.end() if match else len(text)
                pieces.append(text[at:stop])
                at, self._quoted = stop, match is not None
                continue
            if match := self._content.match(text, at):
                pieces.append(self._pair.sub(lambda pair: b'""' if pair[1] == b'"' else pair[1], match[0]))
                at = match.end()
            if at >= len(text) - 1 and not last:
                break  # the meaning of a quote or an escape character depends on the byte after it
            pieces.append(text[at : at + 1])
            self._quoted = text[at : at + 1] != b'"'
            at += 1
        at = min(at, len(text))
        self._rest = text[at - 1 :]
        return b"".join(pieces)
