#!/usr/bin/env python3
"""The cost of being able to resume, and the time of a resume, on the example artifact.

    python benchmarks/resume.py [--rows 200000] [--shares 0.25 0.5 0.75]

The first table: what a run that nobody disturbs spends on it (the plan with its hashes, finding where rows end, writing
parts and their lines, waiting for the disk, checking parts at the commit), each as a share of the same run. Time that a
thread spends while the model works is listed, and does not count. Row ends are found in a thread of Arrow's: of this,
the processor time counts, without the time that the thread waits for Python's lock.

The second: a run is killed when it has done a share of the rows, and started again. The time of the second attempt
without start-up, as a share of a whole run's, should be what was left.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "reviews"
WATCHED = (
    ("plan: hashes of artifact and plugins", "bsm_core.scoring.attempt", "plan_of"),
    ("finding where rows end", "bsm_core.tables.formats.row_ends", "RowEnds.feed"),
    ("beginning: finding parts, writing the plan", "bsm_core.scoring.output.sink", "Sink.find"),
    ("beginning: finding parts, writing the plan", "bsm_core.scoring.output.sink", "Sink.begin"),
    ("waiting for a part to be on the disk", "bsm_core.scoring.engines.callbacks", "PartWriter._wait"),
    ("parts at the commit: reading, checksums", "bsm_core.scoring.output.sink", "Sink._read"),
    ("predictions: flush and rename", "bsm_core.scoring.output.sink", "durable.replace"),
    ("inputs and artifact: unchanged?", "bsm_core.scoring.engines.scorer", "Scorer.require_unchanged"),
    ("markers: write, flush, rename", "bsm_core.scoring.output.markers", "Markers.succeed"),
    ("markers: write, flush, rename", "bsm_core.scoring.output.markers", "Markers.clear"),
)
MEANWHILE = ("writing parts, in a thread", "bsm_core.scoring.output.sink", "Sink.write_part")

CODE = """
import functools, importlib, json, sys, threading, time
spent = {{}}
watched = threading.local()  # a watched function that another calls counts once

def watch(label, module, name):
    clock = time.thread_time if name == "RowEnds.feed" else time.perf_counter
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    function = getattr(owner, last)

    @functools.wraps(function)
    def timed(*args, **kwargs):
        if getattr(watched, "now", False):
            return function(*args, **kwargs)
        began, watched.now = clock(), True
        try:
            return function(*args, **kwargs)
        finally:
            watched.now = False
            spent[label] = spent.get(label, 0.0) + clock() - began

    setattr(owner, last, timed)

for each in {watched!r}:
    watch(*each)
from bsm_core.run import main
status = main({arguments!r})
print(json.dumps(spent))
sys.exit(status)
"""


def write_table(rows: int, path: Path) -> Path:
    """Write the example's reviews again and again, with ids of their own."""
    reviews = pacsv.read_csv(EXAMPLE / "reviews.csv", convert_options=pacsv.ConvertOptions(strings_can_be_null=False))
    times = -(-rows // len(reviews))
    table = pa.concat_tables([reviews] * times).slice(0, rows)
    ids = pa.array([f"r{i:08d}" for i in range(rows)])
    pacsv.write_csv(table.set_column(table.column_names.index("review_id"), "review_id", ids), path)
    return path


def arguments(data: Path, output: Path) -> list[str]:
    """Return the arguments of the run."""
    places = ["--model-dir", EXAMPLE / "model.tar.gz", "--data-dir", data, "--output-dir", output]
    return [str(a) for a in ("--job_type", "testing", "--id-field", "review_id", "--device", "cpu", *places)]


def whole(data: Path, output: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Run undisturbed; return the seconds of each watched function, and the run record."""
    code = CODE.format(watched=[*WATCHED, MEANWHILE], arguments=[*arguments(data, output), "--run-record"])
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), json.loads((output / "run.json").read_text())


def resumed(data: Path, output: Path, share: float, rows: int) -> dict[str, Any]:
    """Kill a run when it has done a share of the rows, start it again, and return the record of the second attempt."""
    process = subprocess.Popen([sys.executable, "-m", "bsm_core.run", *arguments(data, output)])
    manifest = output / ".bsm" / "manifest.jsonl"
    while process.poll() is None:
        done = manifest.read_text().splitlines() if manifest.exists() else []
        if sum(json.loads(line)["rows"] for line in done if line.endswith("}")) >= share * rows:
            process.kill()
        time.sleep(0.02)
    command = [sys.executable, "-m", "bsm_core.run", *arguments(data, output), "--run-record"]
    subprocess.run(command, check=True)
    record: dict[str, Any] = json.loads((output / "run.json").read_text())
    return record


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.25, 0.5, 0.75])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_table(options.rows, Path(folder) / "reviews.csv")
        spent, record = whole(data, Path(folder) / "whole")
        seconds = record["seconds"]
        print(f"{options.rows:,} rows in {seconds:.1f} s, {os.cpu_count()} cores; of this, for being able to resume:")
        labels = list(dict.fromkeys(label for label, _, _ in WATCHED))
        for label in labels:
            print(f"  {label:42} {spent.get(label, 0.0):8.3f} s {spent.get(label, 0.0) / seconds:8.2%}")
        total = sum(spent.get(label, 0.0) for label in labels)
        print(f"  {'together':42} {total:8.3f} s {total / seconds:8.2%}")
        print(f"  ({MEANWHILE[0]}, meanwhile: {spent[MEANWHILE[0]]:.3f} s)")
        for share in options.shares:
            again = resumed(data, Path(folder) / f"killed-{share}", share, options.rows)
            left = 1 - sum(a["rows"] for a in again["attempts"][:-1]) / options.rows
            print(
                f"killed with {left:.0%} left: the resume took {again['seconds'] / seconds:.0%} of a whole run's time"
            )


if __name__ == "__main__":
    main()
