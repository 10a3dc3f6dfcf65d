"""Reading JSON lines: one object on each line, whose values are cells, each with the text that it has in the file."""

from __future__ import annotations

import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bsm_core.errors import DataError, quoted
from bsm_core.tables.bad_lines import SHOWN, SKIP, BadLine
from bsm_core.tables.delimited import BLOCK_SIZES, FileRows, line_breaks
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.first_bytes import wide_text
from bsm_core.tables.formats.headers import MOST_COLUMNS, reading
from bsm_core.tables.formats.text_stream import TextStream

_NOT_UTF_8, _AS_UTF_8 = "bytes that are not UTF-8", "save the file as UTF-8"


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
        for found, _, _ in _rows(path, 0, on_bad_line, lambda found, _: list(found)):
            empty = False
            keys.update(dict.fromkeys(found) if isinstance(found, list) else ())
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
        for found, end, share in _rows(path, offset, on_bad_line, partial(_cells, wanted)):
            if isinstance(found, BadLine):
                bad_lines.append((len(held), found))
                continue
            held.append(found)
            ends.append(end)
            if len(held) == rows:
                yield _batch(held, wanted, share, ends, bad_lines)
                held, ends, bad_lines = [], [], []
        if held or bad_lines:
            yield _batch(held, wanted, 1.0, ends, bad_lines)


def _rows(
    path: Path,
    offset: int,
    on_bad_line: Literal["fail", "skip"],
    cells_of: Callable[[dict[str, Any], str], list[Any] | str],
) -> Iterator[tuple[list[Any] | BadLine, int, float]]:
    """Yield the cells or the fault of each line, the position after it, and the share of the file before that.

    Args:
        path: The file.
        offset: Position at which a line begins.
        on_bad_line: Whether a line with a fault is an error.
        cells_of: Function of the object of a line and of its text. Returns the cells, or what is wrong with one.
    """
    at, longest, before, count = offset, BLOCK_SIZES[-1], -1, 0
    with TextStream(path, Dialect(), offset=offset) as stream:
        file = io.BufferedReader(stream, 1 << 20)
        while content := file.readline(longest + 1):
            start, at, count = at, at + len(content), count + 1
            if not start and (kind := wide_text(content)):
                raise DataError(f"the file is {kind.what}", where=str(path), fix=_AS_UTF_8)
            content = content.removeprefix(BOM_UTF8) if not start else content
            if content.isspace() or not content:
                continue
            too_long = len(content) > longest
            text, found = ("", f"longer than {longest:,} bytes") if too_long else _parsed(content)
            cells = found if isinstance(found, str) else cells_of(found, text)
            if not isinstance(cells, str):
                yield cells, at, stream.share_before(at)
                continue
            before = line_breaks(path, Dialect(), offset) if before < 0 else before
            bad = BadLine(f"{path}, line {before + count}", cells, _shown(content), start, at)
            if too_long or on_bad_line == "fail":
                raise _error(bad, [] if too_long else [SKIP])
            yield bad, at, stream.share_before(at)


def _parsed(content: bytes) -> tuple[str, dict[str, Any] | str]:
    """Return the text of a line, and its object or what is wrong with it."""
    try:
        text = content.rstrip(b"\r\n").decode()
        found = _DECODER.decode(text)
    except UnicodeDecodeError:
        return "", _NOT_UTF_8
    except json.JSONDecodeError as error:
        return "", f"not JSON: {error.msg} at character {error.colno}"
    except RecursionError:
        return "", "nested too deeply"
    if isinstance(found, _Repeated):
        return "", "a key occurs twice"
    if not isinstance(found, dict):
        return text, "not an object"
    if "\\u" in text and not all(map(_is_unicode, found)):
        return "", "half of a surrogate pair: in a key"
    return text, found


def _cells(wanted: pa.Schema, found: dict[str, Any], line: str) -> list[str | None] | str:
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
    return FileRows(batch, share, np.array(ends, np.int64), np.zeros((len(ends), 2), np.int64), bad_lines)


def _shown(content: bytes) -> str:
    return content[: 4 * SHOWN].decode(errors="backslashreplace").rstrip("\r\n")[:SHOWN]


def _error(bad: BadLine, settings: Sequence[Mapping[str, str]]) -> DataError:
    pandas = ", as pandas does with to_json(orient='records', lines=True)" if bad.text.startswith("[") else ""
    return DataError(
        f"the line cannot be read: {bad.reason}",
        where=bad.where,
        details=[f"the line begins with {quoted(bad.text[:80])}"],
        fix=_AS_UTF_8 if bad.reason == _NOT_UTF_8 else f"write one JSON object on each line{pandas}",
        settings=settings,
    )
