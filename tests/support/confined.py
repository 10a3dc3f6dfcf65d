"""Commands of ``bsm`` in a process of their own that is ended when it takes too much time or memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS, MEGABYTES = 10, 512
"""Limits on a command that meets an artifact that somebody made to hurt; memory is beyond the artifact's own size."""


@dataclass(frozen=True)
class Outcome:
    """Result of a command.

    Attributes:
        status: Exit status of the process; negative after a signal.
        out: Standard output.
        err: Standard error.
        seconds: Wall time from the first line of the command, when all libraries had been imported.
        megabytes: Memory that the process took beyond what it had then.
    """

    status: int
    out: str
    err: str
    seconds: float
    megabytes: float


def confined(folder: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> Outcome:
    """Run ``bsm *arguments``.

    Args:
        folder: Where the output of the process is written.
        arguments: The arguments.
        env: Further environment variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = [str(argument) for argument in arguments]
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_run, args=(words, env or {}, str(folder)))
    child.start()
    child.join(6 * SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
    usage = json.loads((folder / "usage").read_text()) if (folder / "usage").exists() else [float("inf")] * 2
    return Outcome(int(child.exitcode or 0), (folder / "out").read_text(), (folder / "err").read_text(), *usage)


def _run(arguments: Sequence[str], env: dict[str, str], folder: str) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ |= env
    from bsm_core.cli import main
    from bsm_core.predictor import Predictor  # noqa: F401 - takes the memory of the libraries

    resource.setrlimit(resource.RLIMIT_CPU, (4 * SECONDS, 4 * SECONDS))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (8 * MEGABYTES << 20), resource.RLIM_INFINITY))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    status = 70  # of a bug: an exception that is not one of ours
    try:
        status = main(arguments)
    finally:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        Path(folder, "usage").write_text(json.dumps([time.monotonic() - began, grown]))
        sys.stdout.flush()
    raise SystemExit(status)
