#!/usr/bin/env python3
"""Memory of the driver and of the actors of Ray, on the way through a large table.

    python benchmarks/ray_memory.py [--rows 1000000] [--actors 2] [--model tiny]

The script scores the example's reviews, again and again, with ``--engine ray``, and samples the resident memory of the
driver and of each actor: all of it, and without the pages that are shared with other processes, as those of Ray's
object store are. It prints the largest value of the first tenth of the rows and of all rows. ``--model tabular`` scores
features alone, which takes a minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resume import EXAMPLE, write_table
from splits import write_artifact
from splits import write_table as write_features

from bsm_core.scoring.output.manifest import WorkFolder

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.processes import descendants


def memory(process: int) -> tuple[float, float]:
    """Return the resident memory of a process and the part of it that is not shared, in MB; 0 if it has ended."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return tuple(int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))  # type: ignore[return-value]
    except (OSError, KeyError):
        return 0.0, 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--model", choices=["tiny", "tabular"], default="tiny")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), options.rows
        if options.model == "tiny":
            model, data, id_field = EXAMPLE / "model.tar.gz", folder / "table.csv", "review_id"
            write_table(rows, data)
        else:
            model, data, id_field = write_artifact(folder / "model"), folder / "table.csv", "id"
            rows = write_features(data, rows * 360 // 1_000_000, 1)
        output = folder / "out"
        places = ["--model-dir", model, "--data-dir", data, "--output-dir", output, "--id-field", id_field]
        command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--engine", "ray", "--device", "cpu"]
        command += [*map(str, places), "--num-actors", str(options.actors)]
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        work, done, read = WorkFolder(output), 0, 0
        first, largest = dict[str, tuple[float, float]](), dict[str, tuple[float, float]]()
        while driver.poll() is None:
            done, read = work.rows_on(done, read)
            watched = {"driver": driver.pid}
            for number, words in descendants(driver.pid).items():
                if words.startswith("ray::WindowActor"):
                    watched[f"actor {number}"] = number
            for who, process in watched.items():
                now = memory(process)
                for seen in [largest] + [first] * (done <= rows / 10):
                    seen[who] = tuple(map(max, now, seen.get(who, now)))  # type: ignore[assignment]
            time.sleep(0.2)
        if driver.returncode:
            raise SystemExit((output / "_FAILURE").read_text())
    print(f"{rows:,} rows, MB of memory (without shared pages): largest in the first tenth, and of all")
    for who, (everything, own) in largest.items():
        early = "{:.0f} ({:.0f})".format(*first[who]) if who in first else "not yet started"
        print(f"{who:14} {early:>16} {everything:8.0f} ({own:.0f})")


if __name__ == "__main__":
    main()
