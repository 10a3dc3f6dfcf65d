"""Reading JSON lines: one object on each line, whose values are cells, each with the text that it has in the file."""

from __future__ import annotations

import io
import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bsm_core.errors import DataError
from bsm_core.tables.bad_lines import BadLine
from bsm_core.tables.delimited import BLOCK_SIZES, MOST_COLUMNS, FileRows, line_breaks, reading
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.text_stream import TextStream

_SHOWN = 200
"""Characters of a line that are kept of a line that cannot be read."""


class _Exact(str):
    """Text of a number as it is in the file."""


class _Repeated(dict[str, Any]):
    """Object in which a key occurs twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(found)


_DECODER = json.JSONDecoder(
    parse_int=_Exact, parse_float=_Exact, parse_constant=_Exact, object_pairs_hook=_object, strict=False
)


def read_keys(path: Path, on_bad_line: Literal["fail", "skip"]) -> dict[str, None] | None:
    """Return the keys of all objects of a file, in the order in which they appear.

    The whole file is read, because a key may appear late.

    Returns:
        The keys as those of a dict, or None if the file has no line.

    Raises:
        DataError: A line is no object, and ``on_bad_line`` is ``"fail"``; or the file cannot be read.
    """
    keys: dict[str, None] = {}
    empty = True
    with reading(path):
        for found, _, _, _ in _rows(path, 0):
            empty = False
            if isinstance(found, BadLine):
                if on_bad_line == "fail":
                    raise _error(_numbered(path, found))
                continue
            keys.update(dict.fromkeys(found))
            if len(keys) > MOST_COLUMNS:
                what = f"the objects have more than {MOST_COLUMNS:,} keys"
                raise DataError(what, where=str(path), fix="look whether the file is a table of JSON lines")
    return None if empty else keys


def read_batches(
    path: Path, wanted: pa.Schema, rows: int, offset: int, on_bad_line: Literal["fail", "skip"]
) -> Iterator[FileRows]:
    """Read the rows of a file.

    A string is its text. A number, an array and an object are the text that they have in the file, and a Boolean is
    ``true`` or ``false``. A value that is null or not there is null.

    Args:
        path: The file.
        wanted: Columns to read, as ``binary`` or ``string``.
        rows: Maximum number of rows of a record batch.
        offset: Position at which a line begins, in the decompressed bytes.
        on_bad_line: Whether a line that is no object is an error or is left out.

    Raises:
        DataError: A line is no object; or the file cannot be read.
    """
    held: list[list[str | None]] = []
    ends: list[int] = []
    bad_lines: list[tuple[int, BadLine]] = []
    share = 0.0
    with reading(path):
        for found, line, (start, end), share in _rows(path, offset):
            cells = found if isinstance(found, BadLine) else _cells(found, line, wanted)
            cells = BadLine("", cells, line[:_SHOWN], start, end) if isinstance(cells, str) else cells
            if isinstance(cells, BadLine):
                if on_bad_line == "fail":
                    raise _error(_numbered(path, cells))
                bad_lines.append((len(held), _numbered(path, cells)))
                continue
            held.append(cells)
            ends.append(end)
            if len(held) == rows:
                yield _batch(held, wanted, share, ends, bad_lines)
                held, ends, bad_lines = [], [], []
        if held or bad_lines:
            yield _batch(held, wanted, 1.0, ends, bad_lines)


def _rows(path: Path, offset: int) -> Iterator[tuple[dict[str, Any] | BadLine, str, tuple[int, int], float]]:
    """Yield the object or the fault of each line, with its text, its place, and the share of the file read."""
    at, longest = offset, BLOCK_SIZES[-1]
    with TextStream(path, Dialect(), offset=offset) as stream:
        file = io.BufferedReader(stream, 1 << 20)
        while content := file.readline(longest + 1):
            start, at = at, at + len(content)
            if len(content) > longest:
                bad = BadLine("", f"a line is longer than {longest:,} bytes", _shown(content), start, at)
                raise _error(_numbered(path, bad))
            content = content.removeprefix(BOM_UTF8) if not start else content
            if content.isspace() or not content:
                continue
            text, row = _parsed(content)
            found = BadLine("", row, _shown(content), start, at) if isinstance(row, str) else row
            yield found, text, (start, at), stream.fraction()


def _parsed(content: bytes) -> tuple[str, dict[str, Any] | str]:
    """Return the text of a line, and its object or what is wrong with it."""
    try:
        text = content.rstrip(b"\r\n").decode()
        found = _DECODER.decode(text)
    except UnicodeDecodeError:
        return "", "bytes that are not UTF-8"
    except json.JSONDecodeError as error:
        return "", f"not JSON: {error.msg} at character {error.colno}"
    except RecursionError:
        return "", "nested too deeply"
    if isinstance(found, _Repeated):
        return "", "a key occurs twice"
    return text, found if isinstance(found, dict) else "not an object"


def _cells(found: dict[str, Any], line: str, wanted: pa.Schema) -> list[str | None] | str:
    """Return the text of each wanted value of a line, or what is wrong with one."""
    cells: list[str | None] = []
    raw: dict[str, str] | None = None
    for field in wanted:
        value = found.get(field.name)
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif not isinstance(value, str | None):
            raw = _raw(line) if raw is None else raw
            value = raw[field.name]
        if value is not None and pa.types.is_string(field.type) and not _is_unicode(value):
            return f"half of a surrogate pair: column {field.name!r}"
        cells.append(value)
    return cells


def _is_unicode(text: str) -> bool:
    return text.isascii() or text == text.encode(errors="replace").decode()


def _raw(line: str) -> dict[str, str]:
    """Return the text of each value of an object. The line is one object, as the decoder has found."""
    values: dict[str, str] = {}
    at = line.index("{") + 1
    while True:
        at = _after_space(line, at)
        if line[at] == "}":
            return values
        key, at = scanstring(line, line.index('"', at) + 1, False)
        at = _after_space(line, line.index(":", at) + 1)
        _, end = _DECODER.raw_decode(line, at)
        values[key], at = line[at:end], _after_space(line, end)


def _after_space(line: str, at: int) -> int:
    while line[at] in " \t\r\n,":
        at += 1
    return at


def _batch(
    held: Sequence[Sequence[str | None]],
    wanted: pa.Schema,
    share: float,
    ends: list[int],
    bad_lines: list[tuple[int, BadLine]],
) -> FileRows:
    columns = []
    for field, values in zip(wanted, zip(*held, strict=True), strict=True) if held else ():
        cells = [None if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        columns.append(pa.array(cells, pa.binary()).cast(field.type))
    batch = pa.record_batch(columns or [pa.array([], field.type) for field in wanted], schema=wanted)
    return FileRows(batch, share, np.array(ends, np.int64), bad_lines)


def _numbered(path: Path, bad: BadLine) -> BadLine:
    line = 1 + line_breaks(path, Dialect(), bad.start)
    return BadLine(f"{path}, line {line}", bad.reason, bad.text, bad.start, bad.stop)


def _shown(content: bytes) -> str:
    return content[: 4 * _SHOWN].decode(errors="backslashreplace").rstrip("\r\n")[:_SHOWN]


def _error(bad: BadLine) -> DataError:
    return DataError(
        f"the line cannot be read: {bad.reason}",
        where=bad.where or None,
        details=[f"the line begins with {bad.text[:80]!r}"],
        fix="write one JSON object on each line"
        + (", as pandas does with to_json(orient='records', lines=True)" if bad.text.startswith("[") else "")
        + ", or leave out such lines with --on-bad-line skip",
    )
