"""``python -m bsm_core.run``: score a table with an artifact, as ``bsm run`` does.

``bsm_core.run`` is a function, too. When this module is imported, it takes the name of the function. So the module can
be called as the function can.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bsm_core.cli.exit_status import Command, Work, exit_status, style_of, style_of_words


def main(argv: Sequence[str] | None = None, *, needs_job_type: bool = False) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments; those of the process if None.
        needs_job_type: Whether ``--job_type`` must be given, as the inference contract wants it of its script.
    """
    return exit_status(partial(_parse, argv, needs_job_type), style_of_words(argv))


def _parse(argv: Sequence[str] | None, needs_job_type: bool) -> Work:
    # Imported here, where signals are handled: until then, the first process of a container ignores SIGTERM.
    from bsm_core.cli.command_parser import CommandParser
    from bsm_core.cli.commands.run_command import HELP, add_flags, execute, read_config, usage_errors

    name = Path(sys.argv[0]).name if needs_job_type else "python -m bsm_core.run"
    parser = CommandParser(prog=name, usage="%(prog)s [-h] [FLAGS]", **HELP)
    add_flags(parser, needs_job_type=needs_job_type)
    with usage_errors(argv):
        arguments = parser.parse_args(argv)
    read_config(arguments)
    return Command(partial(execute, arguments), style_of(arguments))


class _CallableModule(ModuleType):
    def __call__(self, **settings: Any) -> Any:
        from bsm_core.scoring.run_function import run

        return run(**settings)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _CallableModule
