"""``bsm doctor``: what is installed, and what works on this machine."""

from __future__ import annotations

import argparse

from bsm_core.cli.command_parser import Commands
from bsm_core.cli.output import say, say_json
from bsm_core.runtime.memory import require_memory_for_libraries, starting
from bsm_core.runtime.signals import at_once


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("doctor", help="show versions, devices, backends that work here, and problems")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    require_memory_for_libraries()
    with at_once(), starting():
        from bsm_core.testing.installation import examine

    found = examine()
    if arguments.json:
        say_json(found.to_dict())
    else:
        say(found.to_text())
    return 1 if found.problems else 0
