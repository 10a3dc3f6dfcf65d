"""``python -m bsm_core.run``: score a table with an artifact, as ``bsm run`` does.

``bsm_core.run`` is a function, too. When this module is imported, it takes the name of the function. So the module can
be called as the function can.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from bsm_core.cli.exit_status import Work, exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments; those of the process if None.
    """
    return exit_status(partial(_parse, argv))


def _parse(argv: Sequence[str] | None) -> Work:
    # Imported here, where signals are handled: until then, the first process of a container ignores SIGTERM.
    from bsm_core.cli.commands.run_command import add_arguments, execute, usage_errors

    parser = argparse.ArgumentParser(
        prog="python -m bsm_core.run",
        description="Compute class probabilities for every row of a CSV, TSV or Parquet table.",
        epilog="A flag has precedence over its environment variable, and this over the artifact's config; except that "
        "the config has precedence over BATCH_SIZE. Exit status: 0 for success, 1 for a failure (see _FAILURE in the "
        "output folder), 2 for wrong usage, 128 + n after signal n.",
    )
    add_arguments(parser)
    with usage_errors(argv):
        arguments = parser.parse_args(argv)
    return partial(execute, arguments)


class _CallableModule(ModuleType):
    def __call__(self, **settings: Any) -> Any:
        from bsm_core.scoring.run_function import run

        return run(**settings)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _CallableModule
