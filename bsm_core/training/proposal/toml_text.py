"""Text of a TOML file with comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bsm_core.errors import printable

_WIDTH = 100


class TomlText:
    """TOML file that is written line by line.

    Args:
        changes: Values that replace those of :meth:`add`. Keys that were not added are appended at the end.
    """

    def __init__(self, changes: Mapping[str, Any]) -> None:
        self._lines: list[str] = []
        self._changes = dict(changes)
        self._added: set[str] = set()

    def note(self, text: str) -> None:
        """Add a comment; an empty text is an empty line."""
        self._lines.append(f"# {printable(text)}" if text else "")

    def add(self, key: str, value: Any, about: str = "") -> None:
        """Add a key with a value that JSON can hold, or the value that replaces it, with a comment.

        A mapping with keys becomes a line for each of them.
        """
        self._added.add(key)
        value = self._changes.get(key, value)
        if isinstance(value, Mapping) and value:
            for name, inner in value.items():
                self.add(f"{key}.{_bare(str(name))}", inner, about)
                about = ""
        elif value is not None:
            self._lines += _line(key, value, about)

    def leave_out(self, key: str, value: Any, about: str = "") -> None:
        """Add a key as a comment, for the user to turn on."""
        if key not in self._changes:
            self._lines += [f"# {line}" for line in _line(key, value, about)]

    def text(self) -> str:
        """Return the text, with the changes that replaced nothing at its end."""
        rest = {key: value for key, value in self._changes.items() if key not in self._added}
        if rest:
            self.note("")
        for key, value in rest.items():
            self.add(_bare(key), value)
        return "\n".join(self._lines).strip("\n") + "\n"


def _line(key: str, value: Any, about: str) -> list[str]:
    line = f"{key} = {_value(value)}"
    comment = f"  # {printable(about)}" if about else ""
    if isinstance(value, list) and len(line) > _WIDTH:
        return [f"{key} = [{comment}", *(f"  {_value(each)}," for each in value), "]"]
    return [line + comment]


def _value(value: Any) -> str:
    """Return a value as TOML, whose texts, numbers and booleans are written as in JSON."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_bare(str(key))} = {_value(inner)}" for key, inner in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _bare(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else _value(key)
