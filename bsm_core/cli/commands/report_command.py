"""``bsm report``: a page that shows what a run has scored, with labels or without."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import path_or_url
from bsm_core.cli.output import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("report", help="draw a report of a run, an HTML file")
    parser.add_argument("output", type=path_or_url, metavar="OUTPUT", help="output folder of a run")
    parser.add_argument("--labels", type=path_or_url, metavar="FILE", help="table with the ids and labels of rows")
    parser.add_argument("--label-column", metavar="NAME", help="column of the labels (default: as in training)")
    parser.add_argument(
        "-o", "--to", type=path_or_url, metavar="FILE", help="the page (default: report.html in OUTPUT)"
    )
    parser.set_defaults(handler=_report)


def _report(arguments: argparse.Namespace) -> None:
    from bsm_core.scoring.output.run_report import make_report

    drawn = make_report(arguments.output, labels=arguments.labels, label_column=arguments.label_column, to=arguments.to)
    for note in drawn.notes:
        say(f"note: {note}")
    say(f"report: {drawn.path}")
