#!/usr/bin/env python3
"""Fuzz the readers of untrusted bytes with atheris (libFuzzer), in a process with limits.

    python tests/fuzz/forever.py pickle [--inputs 1000000] [--seconds 7200]

Stops at the first finding: an exception that is none of bsm's, a crash, or an input that takes more than 5 seconds or
512 MB. libFuzzer writes the input to ``crash-*``, ``timeout-*`` or ``oom-*``, and prints how many it has tried.
"""

from __future__ import annotations

import argparse
import logging
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


def main() -> None:
    """Fuzz one reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=7200)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)

    def one(data: bytes) -> None:
        run(options.reader, data, Path(work))

    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(TARGETS[options.reader][1]):
            one(seed)  # what a reader imports with its first input is not a hang
            (Path(corpus) / str(number)).write_bytes(seed)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 512
        limits = [
            f"-runs={options.inputs}",
            f"-max_total_time={options.seconds}",
            "-timeout=5",
            f"-rss_limit_mb={most}",
        ]
        atheris.Setup([sys.argv[0], *limits, "-max_len=4096", "-print_final_stats=1", corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
