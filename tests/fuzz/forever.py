#!/usr/bin/env python3
"""Fuzz the readers of untrusted bytes with atheris (libFuzzer), in a process with limits.

    python tests/fuzz/forever.py pickle [--inputs 1000000] [--seconds 7200]

Stops at the first finding: an exception that is none of bsm's, a crash, or an input that takes more than 5 seconds or
512 MB. libFuzzer writes the input to ``crash-*``, ``timeout-*`` or ``oom-*``, and prints how many it has tried.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import tempfile
from pathlib import Path

import atheris

sys.path[0] = str(Path(__file__).parents[1])
with atheris.instrument_imports(
    include=["bsm_core.artifact", "bsm_core.tables", "bsm_plugins_text", "tarfile", "zipfile"]
):
    from fuzz.targets import TARGETS, run

ROUND = 200_000
"""Largest number of inputs of one process: atheris keeps about 2 KB for each, which are not the memory of a reader."""


def main() -> None:
    """Fuzz one reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=7200)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[options.reader][1]):
            (Path(corpus) / str(number)).write_bytes(seed)
        for done in range(0, options.inputs, ROUND):
            child = os.fork()
            if child == 0:
                try:
                    fuzz(options.reader, corpus, min(ROUND, options.inputs - done), options.seconds)
                finally:
                    os._exit(1)  # it has raised: atheris ends the process
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status:
                sys.exit(status)


def fuzz(reader: str, corpus: str, inputs: int, seconds: int) -> None:
    """Give a reader some inputs, and end the process; its status is 0 if nothing was found."""

    def one(data: bytes) -> None:
        run(reader, data, Path(work))

    with tempfile.TemporaryDirectory() as work:
        for seed in TARGETS[reader][1]:
            one(seed)  # what a reader imports with its first input is not a hang
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 512
        limits = [f"-runs={inputs}", f"-max_total_time={seconds}", "-timeout=5", f"-rss_limit_mb={most}"]
        atheris.Setup([sys.argv[0], *limits, "-max_len=4096", "-print_final_stats=1", corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
