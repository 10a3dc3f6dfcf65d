"""The file of a training config, in JSON or TOML."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bsm_core.errors import BSMError, ConfigError, quoted, why_unreadable

_SUFFIXES = {".json": "JSON", ".toml": "TOML"}
_AT_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_KEY = re.compile(r"^\s*\[*\s*((?:[\w.-]|\"[^\"]*\"|'[^']*')+)\s*[=\]]")
_JSON_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the config in a JSON or TOML file.

    The name ends in ``.json`` or ``.toml``. A file of another name is JSON if it begins with ``{``, otherwise TOML.

    Raises:
        ConfigError: The file cannot be read, is neither, does not hold an object, or has a key twice or a value that
            JSON cannot hold. The error names the line and the key.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except BSMError:
        raise
    except OSError as error:
        reason, fix = why_unreadable(error)
        raise ConfigError(f"the config cannot be read: {reason}", where=str(path), fix=fix) from error
    except UnicodeDecodeError as error:
        what = f"the config is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        raise ConfigError(what, where=str(path), fix="save the file as UTF-8 text") from error
    by_content = "JSON" if text.lstrip().startswith("{") else "TOML"
    kind = _SUFFIXES.get(path.suffix.lower(), by_content)
    try:
        values = _from_json(text, path) if kind == "JSON" else _from_toml(text, path)
    except RecursionError as error:
        raise ConfigError("the config is nested too deep", where=str(path), fix="remove the inner lists") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"the config is a JSON {type(values).__name__}, not an object",
            where=str(path),
            fix='write {"key": value, ...}; docs/training.md lists the keys',
        )
    if bad := list(_not_json(values, "")):
        raise ConfigError(
            "the config has values that an artifact's config cannot hold",
            where=str(path),
            details=[f"{key}: {value}" for key, value in bad],
            fix="write finite numbers, true, false, lists, tables, and texts in quotes, of which a date is one",
        )
    return values


def _from_json(text: str, path: Path) -> Any:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            places = [m for m in _JSON_KEY.finditer(text) if m[1] == json.dumps(twice, ensure_ascii=False)[1:-1]]
            line = f"{path}, line {text.count(chr(10), 0, places[-1].start()) + 1}" if places else str(path)
            raise ConfigError(f"the config has the key {twice!r} twice", where=line, fix="remove one of them")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except BSMError:
        raise
    except json.JSONDecodeError as error:
        keys = _JSON_KEY.findall(text, 0, error.pos)
        place = _place(path, error.lineno, error.colno, keys[-1] if keys else None)
        hint = '; for TOML, give the file a name that ends in ".toml"' if path.suffix.lower() == ".json" else ""
        raise ConfigError(
            f"the config is not JSON: {error.msg}", where=place, fix=f"correct the text there or just before it{hint}"
        ) from error
    except ValueError as error:  # an integer with more digits than Python converts
        raise ConfigError(
            f"the config cannot be read: {error}", where=str(path), fix="write a smaller number"
        ) from error


def _from_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        message, at = str(error), _AT_LINE.search(str(error))
        lines, line = text.splitlines(), int(at[1]) if at and at[1] else None
        if line is None:
            line = len(lines) if at else None
        place = _place(path, line, int(at[2]) if at and at[2] else None, _toml_key(lines[:line]) if line else None)
        raise ConfigError(
            f"the config is not TOML: {message[: at.start()] if at else message}",
            where=place,
            fix='write lines such as batch_size = 64, texts in quotes: label_name = "churned", and each key once',
        ) from error
    return values


def _not_json(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, each in inner:
            yield from _not_json(each, f"{key}.{name}" if key else str(name))
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        yield key, value


def _toml_key(lines: Sequence[str]) -> str | None:
    """Return the key in the last of some lines; for a value of several lines, the last key before it."""
    found = (_TOML_KEY.match(line) for line in reversed(lines))
    return next((match[1].strip("\"'") for match in found if match), None)


def _place(path: Path, line: int | None, column: int | None, key: str | None) -> str:
    parts = [str(path), line and f"line {line}", column and f"column {column}", key and f"key {quoted(key)}"]
    return ", ".join(part for part in parts if part)
