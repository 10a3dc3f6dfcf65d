"""``bsm clean``: remove what a run that did not end well has left for the next attempt."""

from __future__ import annotations

import argparse

from bsm_core.cli.arguments import FOLDER, add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.output import say


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("clean", help="remove the finished parts of a run that was killed or failed")
    add_path(parser, "output", completes=FOLDER, metavar="OUTPUT", help="the output folder of the run")
    parser.set_defaults(handler=_clean)


def _clean(arguments: argparse.Namespace) -> None:
    from bsm_core.scoring import job
    from bsm_core.scoring.output.markers import is_output

    rows = job.clean(arguments.output)
    if rows is None:
        nothing = f"there is no work folder in {arguments.output}"
        say(nothing if is_output(arguments.output) else f"{nothing}, nor anything else of a run: is it the right one?")
    else:
        say(f"removed the work folder: {rows:,} rows had been done ({arguments.output})")
