"""``bsm report``: a page that shows what a run has scored, with labels or without."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import FOLDER, add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.commands.evaluate_command import add_label_flags, label_arguments
from bsm_core.cli.commands.run_command import give_table_flags
from bsm_core.cli.output import say


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("report", help="draw a report of a run, an HTML file")
    add_path(parser, "output", completes=FOLDER, metavar="OUTPUT", help="output folder of a run")
    add_path(parser, "-o", "--to", metavar="FILE", help="the page (default: report.html in OUTPUT)")
    add_label_flags(parser, required=False)
    parser.set_defaults(handler=_report, advice=give_table_flags)


def _report(arguments: argparse.Namespace) -> None:
    from bsm_core.evaluation.make_report import make_report

    drawn = make_report(arguments.output, labels=arguments.labels, to=arguments.to, **label_arguments(arguments))
    for note in drawn.notes:
        say(f"note: {note}")
    say(f"report: {drawn.path}")
