"""Names of objects: their folders, and the patterns that they match."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def folders_of(keys: Sequence[str]) -> set[str]:
    """Return the folders in which objects lie, and the folders of these."""
    found: set[str] = set()
    for key in keys:
        while (key := key.rpartition("/")[0]) and key not in found:
            found.add(key)
    return found


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the names of a path match those of a pattern; ``**`` matches any number of names."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return matches(parts, pattern[1:]) or (bool(parts) and matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])
