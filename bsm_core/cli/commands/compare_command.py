"""``bsm compare``: how two prediction files differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bsm_core.cli.arguments import add_path, number_from_0
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.run_command import add_arguments, give_table_flags
from bsm_core.cli.output import say, say_json, table_lines
from bsm_core.errors import BSMError, UsageError, quoted
from bsm_core.runtime.memory import explaining_memory
from bsm_core.scoring.comparing import TOLERANCE
from bsm_core.tables.formats.dialect import PARSERS, Dialect

if TYPE_CHECKING:
    from bsm_core.scoring.comparing.compare import Comparison, RowDifference

_MOST_IDS, _LONGEST_NAMES = 5, 60
_NOT_COMPARED = 2
_EXIT_STATUS = (
    "Exit status: 0 if all rows agree, 1 if a row differs or only one file has it, 2 if the files cannot be compared."
)


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("compare", help="compare two prediction files, row by row", epilog=_EXIT_STATUS)
    add_path(parser, "old", metavar="OLD", help="a prediction file, of bsm or of another job")
    add_path(parser, "new", metavar="NEW", help="a prediction file of the same rows")
    parser.add_argument("--id-field", metavar="COLUMN", help="id column (default: the first column of NEW)")
    add_path(parser, "--data", metavar="TABLE", help="input table, to find what rows have in common")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="D",
        help=f"largest difference that counts as none ({TOLERANCE})",
    )
    parser.add_argument("--rows", type=number_from_0, default=10, metavar="N", help="number of rows to show (10)")
    parser.fill_later(lambda parser: add_arguments(parser.add_argument_group("how TABLE is written"), PARSERS))
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(handler=_compare, advice=_convert_first)


def _convert_first(settings: Sequence[Mapping[str, str]]) -> str:
    """Return advice to convert a file: the command has flags for TABLE alone."""
    flags = give_table_flags(settings).removeprefix("give ")
    return f"convert the file first: bsm convert {flags} FILE plain.csv" if flags else ""


def _compare(arguments: argparse.Namespace) -> int:
    """Run the command. As with ``diff`` and ``cmp``, status 1 says that rows differ, so each error has status 2."""
    try:
        with explaining_memory():
            return _run(arguments)
    except BSMError as error:
        error.exit_code = _NOT_COMPARED
        raise
    except Exception as bug:  # noqa: BLE001 - a traceback is printed, and Python would end with status 1
        sys.excepthook(type(bug), bug, bug.__traceback__)
        return _NOT_COMPARED


def _run(arguments: argparse.Namespace) -> int:
    from bsm_core.scoring.comparing.compare import compare

    if arguments.data is None and any(getattr(arguments, name) is not None for name in PARSERS):
        raise UsageError(
            "the flags --csv-... say how the TABLE of --data is written, and there is none",
            fix="give --data TABLE; to compare files that are written so: bsm convert --csv-... OLD plain.csv",
        )
    found = compare(
        arguments.old,
        arguments.new,
        id_field=arguments.id_field,
        data=arguments.data,
        dialect=Dialect.of(vars(arguments)),
        tolerance=arguments.tolerance,
        worst=arguments.rows,
    )
    if arguments.json:
        say_json(asdict(found))
    else:
        say("\n".join(_lines(found, arguments.tolerance)))
    return 0 if found.is_same else 1


def _lines(found: Comparison, tolerance: float) -> list[str]:
    lines = [f"rows in both files: {found.rows:,}", *_rows_of_one_file(found)]
    for side, ids in (("OLD", found.scored_only_old), ("NEW", found.scored_only_new)):
        if ids:
            lines.append(f"rows with a probability in {side} only: {_some(ids)}")
    amount = f"; by {found.median:.2g} (median)" if found.differing else ""
    lines += [
        f"rows that differ by more than {tolerance:g}: {found.differing:,}{amount}; by {found.largest:.2g} at most",
        f"rows in which another class is the most probable: {found.other_class:,}",
    ]
    if found.exchanged:
        pairs = ", ".join(f"{old} of OLD is {new} of NEW" for old, new in found.exchanged.columns.items())
        rest = f"{found.exchanged.differing:,} rows differ" if found.exchanged.differing else "all rows agree"
        lines.append(f"the classes are exchanged: {pairs}; read so, {rest}")
    if found.worst:
        rows = [(_id(r), r.column, f"{r.old:.6f}", f"{r.new:.6f}", f"{r.new - r.old:+.6f}") for r in found.worst]
        lines += ["", "rows that differ most", *table_lines([("id", "column", "old", "new", "difference"), *rows])]
    return [*lines, *_in_common(found)]


def _rows_of_one_file(found: Comparison) -> list[str]:
    """Return lines about ids of one file alone, ids that are spelled otherwise, and repeated ids."""
    sides = ("OLD", found.only_old, found.repeated_old), ("NEW", found.only_new, found.repeated_new)
    lines = [f"rows only in {side}: {_some(ids)}" for side, ids, _ in sides if ids]
    lines += [
        f"  {other.rows:,} ids differ only in {other.what}: {quoted(other.old)} in OLD is {quoted(other.new)} in NEW"
        for other in found.spellings
    ]
    if found.spellings:
        to_fix = "write the ids into both files as they are in the data (pandas reads them so with dtype=str)"
        lines.append(f"  to fix: {to_fix}")
    if found.only_old and found.only_new and not found.rows and not found.spellings:
        others = ", ".join(map(quoted, found.other_columns))
        instead = f": with --id-field, they are joined on another column, one of {others}" if others else ""
        lines.append(f"no id is in both files{instead}")
    for side, _, repeated in sides:
        if repeated.ids:
            lines.append(
                f"repeated ids in {side}: {repeated.ids:,} in {repeated.rows:,} rows, "
                f"such as {quoted(repeated.example)}; the rows of one id are joined in file order"
            )
    if uneven := found.uneven:
        lines.append(
            f"ids with more rows in one file than in the other: {uneven.ids:,}, such as {quoted(uneven.example)} "
            f"({uneven.old:,} in OLD, {uneven.new:,} in NEW); which of their rows belong together is not known"
        )
    return lines


def _in_common(found: Comparison) -> list[str]:
    """Return lines about the traits of the rows that differ, and of those with a probability in one file only."""
    lines = []
    for which, traits in (
        ("that differ", found.traits),
        ("with a probability in one file only", found.unscored_traits),
    ):
        if traits.found:
            heads = ("column", "cell", f"of those {traits.rows:,}", f"of the other {traits.others:,}")
            shares = [(_cut(t.column) or "''", t.what, f"{t.share:.1%}", f"{t.others:.1%}") for t in traits.found]
            lines += ["", f"what the rows {which} have in common", *table_lines([heads, *shares])]
    searches = [traits.search for traits in (found.traits, found.unscored_traits) if traits.search]
    return [*lines, "", searches[0]] if searches else lines


def _id(row: RowDifference) -> str:
    return row.id if row.nth == 1 else f"{row.id} (row {row.nth} of this id)"


def _some(ids: list[str]) -> str:
    more = ", ..." if len(ids) > _MOST_IDS else ""
    return f"{len(ids):,} ({', '.join(map(quoted, ids[:_MOST_IDS]))}{more})"


def _cut(names: str) -> str:
    return names if len(names) <= _LONGEST_NAMES else f"{names[: _LONGEST_NAMES - 3]}..."
