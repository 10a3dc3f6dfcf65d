"""Checking that a table has the columns that are read from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bsm_core.errors import DataError, MissingColumnsError, nearest


def require_columns(
    names: Sequence[Any], wanted: Mapping[str, str], *, where: str | None = None, hints: Sequence[str] = ()
) -> None:
    """Check that a table has some columns, each once.

    Args:
        names: Names of the table's columns. Names that are not ``str`` are never wanted.
        wanted: Names of the columns to check, each with the config key or setting that names it.
        where: File of the table, for errors.
        hints: Further lines for the error about missing columns.

    Raises:
        MissingColumnsError: Columns are missing; the error lists all of them.
        DataError: The table has a wanted column more than once.
    """
    count = Counter(names)
    if missing := [name for name in wanted if not count[name]]:
        near = {name: nearest(name, [other for other in names if isinstance(other, str)]) for name in missing}
        meant = {name: f"; did you mean {other!r}?" if other else "" for name, other in near.items()}
        lines = [f"{name!r}, wanted by {wanted[name]}{meant[name]}" for name in missing]
        raise MissingColumnsError(
            f"{len(missing)} column(s) are missing from the data",
            where=where,
            details=[*lines, f"columns found: {', '.join(map(repr, names))}", *hints],
            fix="add the columns to the data, or correct the names",
        )
    if repeated := [name for name in wanted if count[name] > 1]:
        raise DataError(
            f"columns that occur more than once: {', '.join(map(repr, repeated))}",
            where=where,
            fix="rename or remove the other columns of the same name",
        )
