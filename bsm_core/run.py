"""``python -m bsm_core.run``: score a table with an artifact."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from bsm_core.cli.exit_status import exit_status
from bsm_core.cli.run_command import add_arguments, execute


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m bsm_core.run``."""
    parser = argparse.ArgumentParser(
        prog="python -m bsm_core.run",
        description="Turn a CSV, TSV or Parquet table into class probabilities, one row for every row.",
        epilog="A flag beats its environment variable, which beats the artifact's config (BATCH_SIZE alone yields to "
        "it). Exit status: 0 done, 1 failed (see _FAILURE in the output folder), 2 wrong usage, 128 + n for signal n.",
    )
    add_arguments(parser)
    return exit_status(partial(execute, parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
