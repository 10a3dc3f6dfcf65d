#!/usr/bin/env python3
"""Time of ``bsm plugins`` with many unused plugins installed.

    python benchmarks/plugins.py [--plugins 50] [--runs 20]

Installs fake distributions into a folder of the path. Each has a step, an alias, a model class, a removed name, an
observer, a plugin that registers in code, and a module that ends the process that imports it. Then runs ``bsm
--version``, and ``bsm plugins`` without and with these distributions, in turn, each in a process of its own. Prints the
median of each command in seconds, and its ratio to the first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ENTRY_POINTS = """\
[bsm.v1.steps]
step_{i} = acme_{i}:Step
also_{i} = step_{i}
[bsm.v1.model_classes]
net_{i} = acme_{i}:Net
[bsm.v1.removed]
gone_{i} = acme_{i}:gone
[bsm.v1.observers]
hooks_{i} = acme_{i}
[bsm.v1.plugins]
zoo_{i} = acme_{i}
"""


def install(folder: Path, plugins: int) -> None:
    """Write the metadata and modules of installed plugins into a folder."""
    for i in range(plugins):
        info = folder / f"acme_{i}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{i}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS.format(i=i))
        (folder / f"acme_{i}.py").write_text("import os\nos._exit(9)\n")


def measure(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run ``bsm`` in a new process with a folder on its path; return the seconds and the output."""
    command = [sys.executable, "-m", "bsm_core.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure each command in turn and print a table."""
    parser = argparse.ArgumentParser(description="Time of bsm plugins.")
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        without, crowded = Path(temporary) / "without", Path(temporary) / "with"
        install(without, 0)
        install(crowded, arguments.plugins)
        subjects = {
            "bsm --version": (crowded, "--version"),
            "bsm plugins": (without, "plugins"),
            f"bsm plugins, {arguments.plugins} more installed": (crowded, "plugins"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(arguments.runs + 1):
            for name, (folder, *command) in subjects.items():
                taken, printed = measure(folder, *command)
                seconds[name].append(taken)
        listed = sum(f"step_{i} " in printed for i in range(arguments.plugins))
        if listed != arguments.plugins:
            raise SystemExit(f"{listed} of {arguments.plugins} plugins are listed")
    medians = {name: median(times[1:]) for name, times in seconds.items()}  # the first run fills caches
    first = next(iter(medians.values()))
    print(f"{'':36} {'seconds':>8} {'ratio':>6}")
    for name, value in medians.items():
        print(f"{name:36} {value:8.3f} {value / first:6.2f}")


if __name__ == "__main__":
    main()
