"""``bsm compare``: how two prediction files differ."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bsm_core.cli.output import say
from bsm_core.cli.run_command import TABLE_SETTINGS, add_arguments, dialect_of
from bsm_core.errors import UsageError

if TYPE_CHECKING:
    from bsm_core.scoring.compare import Comparison

_MOST_IDS = 5


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("compare", help="compare two prediction files, row by row")
    parser.add_argument("old", type=Path, metavar="OLD", help="a prediction file, of bsm or of another job")
    parser.add_argument("new", type=Path, metavar="NEW", help="another one, of the same rows")
    parser.add_argument("--id-field", metavar="COLUMN", help="id column (default: the first column of NEW)")
    parser.add_argument("--data", type=Path, metavar="TABLE", help="input table, to find what rows have in common")
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, metavar="D", help="largest difference that counts as none (1e-5)"
    )
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="number of rows to show (10)")
    add_arguments(parser.add_argument_group("how TABLE is written, if it is CSV or TSV"), TABLE_SETTINGS)
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(handler=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from bsm_core.scoring.compare import compare

    if arguments.data is None and any(getattr(arguments, name) is not None for name in TABLE_SETTINGS):
        raise UsageError(
            "the flags --csv-... say how the TABLE of --data is written, and there is none",
            fix="convert OLD or NEW first, if it is written so: bsm convert --csv-... OLD plain.csv",
        )
    found = compare(
        arguments.old,
        arguments.new,
        id_field=arguments.id_field,
        data=arguments.data,
        dialect=dialect_of(arguments),
        tolerance=arguments.tolerance,
        worst=arguments.rows,
    )
    say(_json(found) if arguments.json else "\n".join(_lines(found, arguments.tolerance)))
    return 0 if found.is_same else 1


def _json(found: Comparison) -> str:
    """Return the comparison as JSON, in which null stands for a number that is not finite."""
    plain = json.loads(json.dumps(asdict(found)), parse_constant=lambda name: None)
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _lines(found: Comparison, tolerance: float) -> list[str]:
    lines = [f"rows in both files: {found.rows:,}"]
    for side, ids in (("OLD", found.only_old), ("NEW", found.only_new)):
        if ids:
            more = ", ..." if len(ids) > _MOST_IDS else ""
            lines.append(f"rows only in {side}: {len(ids):,} ({', '.join(map(repr, ids[:_MOST_IDS]))}{more})")
    amount = f"; by {found.median:.2g} in the middle" if found.differing else ""
    lines.append(
        f"rows that differ by more than {tolerance:g}: {found.differing:,}{amount}; by {found.largest:.2g} at most"
    )
    lines.append(f"rows in which another class is the most probable: {found.other_class:,}")
    if found.worst:
        rows = [
            (row.id, row.column, f"{row.old:.6f}", f"{row.new:.6f}", f"{row.new - row.old:+.6f}") for row in found.worst
        ]
        lines += ["", "rows that differ most", *_table([("id", "column", "old", "new", "difference"), *rows])]
    if found.traits:
        rest = found.rows - found.differing
        heads = ("column", "cell", f"of those {found.differing:,}", f"of the other {rest:,}")
        shares = [(t.column, t.what, f"{t.share:.1%}", f"{t.others:.1%}") for t in found.traits]
        lines += ["", "what the rows that differ have in common", *_table([heads, *shares])]
    return lines


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
