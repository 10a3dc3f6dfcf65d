"""Columns by which two prediction files are compared: the id and the probabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bsm_core.errors import MissingColumnsError, UsageError, nearest
from bsm_core.tables.formats.dialect import DELIMITER
from bsm_core.tables.read import TableSource

PREFIX = "prob_class_"
_SIDES = ("OLD", "NEW")
INDEX = re.compile(r"(Unnamed: \d+|__index_level_\d+__)?")
"""Names of the index of a frame that pandas wrote, which is no column of the input."""


def compared_columns(old: TableSource, new: TableSource, id_field: str | None) -> tuple[str, list[str]]:
    """Return the names of the id column and of the probability columns.

    Args:
        old: The old prediction file.
        new: The new prediction file.
        id_field: Name of the id column. None: the first column of ``new``.

    Raises:
        UsageError: The files do not have the same probability columns, or the id column must be given.
        MissingColumnsError: A file has no id column.
        DataError: A column occurs more than once.
    """
    names = _probability_columns((old, new))
    id_field = _id_column((old, new), id_field)
    for source in (old, new):
        source.require(dict.fromkeys([id_field, *names], "bsm compare"))
    return id_field, names


def others_than_probabilities(source: TableSource) -> list[str]:
    """Return the names of the columns that are no probabilities, each once."""
    return [name for name in dict.fromkeys(source.columns) if not name.startswith(PREFIX)]


def common_columns(sources: Sequence[TableSource]) -> list[str]:
    """Return the names of the columns that both files have, without the probabilities and an index of pandas."""
    old, new = sources
    return [name for name in others_than_probabilities(old) if name in new.columns and not INDEX.fullmatch(name)]


def _probability_columns(sources: Sequence[TableSource]) -> list[str]:
    old, new = ([name for name in dict.fromkeys(s.columns) if name.startswith(PREFIX)] for s in sources)
    if old and set(old) == set(new):
        return old
    details, settings = [], list[dict[str, str]]()
    for side, source, names in zip(_SIDES, sources, (old, new), strict=True):
        others = "" if names else f"; columns found: {', '.join(map(repr, source.columns))}"
        hints = source.other_delimiter()
        details += [f"{side}, {source.files[0]}: {', '.join(names) or 'none'}{others}", *hints]
        settings = [DELIMITER] if hints else settings
    fix = None if settings else _fix_of_probabilities(old, new)
    what = "the files do not have the same probability columns"
    raise UsageError(what, details=details, fix=fix, settings=settings)


def _fix_of_probabilities(old: Sequence[str], new: Sequence[str]) -> str:
    """Return what to do about files whose probability columns differ."""
    if not old and not new:
        return f"rename the probability columns of both files: {PREFIX}0 is the first class, {PREFIX}1 the second, ..."
    if not old or not new:
        side, names = ("OLD", new) if not old else ("NEW", old)
        return f"rename the probability columns of {side} to {', '.join(names)}, in the order of the classes"
    if sorted({*old, *new}) == [f"{PREFIX}0", f"{PREFIX}1"]:
        side = "OLD" if len(old) < len(new) else "NEW"
        return f"add the other column to {side}: of two classes, {PREFIX}0 is 1 - {PREFIX}1"
    extra = [
        f"{name!r} of {side}"
        for side, names, others in (("OLD", old, new), ("NEW", new, old))
        for name in names
        if name not in others
    ]
    return f"rename {', '.join(extra)} if it is no class; else compare files of one model, which has one set of classes"


def _id_column(sources: Sequence[TableSource], given: str | None) -> str:
    new = sources[1]
    name, who = (given, "--id-field names") if given is not None else (new.columns[0], "is the first column of NEW")
    common = common_columns(sources)
    fix = _fix_of_id(common)
    if name.startswith(PREFIX):
        what = f"--id-field names a probability, {name!r}" if given is not None else _first_is("a probability", name)
        raise UsageError(what, where=str(new.files[0]), details=[columns_found(new)], fix=fix)
    if given is None and INDEX.fullmatch(name):
        raise UsageError(
            _first_is("an index of pandas", name), where=str(new.files[0]), details=[columns_found(new)], fix=fix
        )
    for side, source in zip(_SIDES, sources, strict=True):
        if name in source.columns:
            continue
        near = nearest(name, [n for n in others_than_probabilities(source) if n != name])
        meant = [f"did you mean {near!r}?"] if near and near in common else []
        hints = source.other_delimiter()
        which = f"which {who}" if given is None else f"which {who} as the id"
        raise MissingColumnsError(
            f"{side} has no column {name!r}, {which}",
            where=str(source.files[0]),
            details=[*meant, columns_found(source), *hints],
            fix=fix,
            settings=[DELIMITER] if hints else [],
        )
    return name


def _first_is(what: str, name: str) -> str:
    return f"the first column of NEW is {what}, {name!r}; give --id-field"


def columns_found(source: TableSource) -> str:
    """Return which columns a table has, for the details of an error."""
    return f"columns found: {', '.join(map(repr, source.columns))}"


def _fix_of_id(common: Sequence[str]) -> str:
    """Return what to do if the id column is not found, given the columns that both files have."""
    if not common:
        return "both files need a column with the ids of the rows, of one name; rename or add it"
    if len(common) == 1:
        return f"give --id-field {common[0]!r}, the only other column that both files have"
    return f"give --id-field COLUMN, one of those that both files have: {', '.join(map(repr, common))}"
