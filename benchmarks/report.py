#!/usr/bin/env python3
"""Cost of the statistics of a run and of its report, and the memory of both.

    python benchmarks/report.py [--rows 100000 1000000] [--unasked]
                                [--model-dir ARTIFACT --data-dir TABLE --id-field ID]

Without an artifact, the script scores tables of ten numbers with the model class ``tabular``, which is the worst case:
the model takes next to no time. Each table is scored in a new process with ``--report``, or with ``--unasked`` without
it, where the predicted classes alone are counted. The script prints the
processor time of the functions that only statistics and report need, as a share of that of the run without start-up;
the peak resident memory, and its ratio to that of the first table; and the sizes of the page and of the statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabular import ID, write_artifact, write_table

from bsm_core.report.statistics import Statistics
from bsm_core.scoring import job
from bsm_core.scoring.engines import callbacks, finish
from bsm_core.scoring.engines.scorer import Scorer

MEASURED = {
    "counting windows": [(callbacks, "scored"), (callbacks.Binning, "statistics"), (callbacks, "classes_alone")],
    "keeping and adding up": [(Statistics, "to_bytes"), (Statistics, "from_bytes"), (Statistics, "add")],
    "the report": [(finish, "as_record"), (finish, "drawn"), (finish, "urgent"), (finish, "write_report")],
}
"""Functions that only statistics and report need."""


def timed(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    """Return the function; the processor time of its thread is added to ``spent``."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[part] += time.thread_time() - began

    return call


def score(model: str, data: str, id_field: str, output: str, asked: str) -> None:
    """Score a table in this process, and print the processor times as JSON."""
    spent = dict.fromkeys([*MEASURED, "run"], 0.0)
    for part, functions in MEASURED.items():
        for owner, name in functions:
            function = timed(getattr(owner, name), spent, part)
            setattr(owner, name, staticmethod(function) if name == "from_bytes" else function)
    began: list[float] = []
    predict = Scorer.predict
    Scorer.predict = lambda *a, **k: (began.append(time.process_time()), predict(*a, **k))[1]  # type: ignore[method-assign]
    flags = {"model_dir": model, "data_dir": data, "id_field": id_field, "output_dir": output, "device": "cpu"}
    wanted = {"report": f"{output}/report.html", "run_record": True} if asked == "True" else {}
    job.run({**flags, "job_type": "testing", **wanted}, {})
    print(json.dumps({**spent, "run": time.process_time() - began[0]}))


def measure(model: Path, table: Path, id_field: str, output: Path, asked: bool) -> tuple[dict[str, float], float]:
    """Score a table in a new process; return its times and its peak resident memory in MB."""
    command = [sys.executable, __file__, "--score", *map(str, (model, table, id_field, output, asked))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the run failed")
    return json.loads(said.splitlines()[-1]), usage.ru_maxrss / 1024


def main() -> None:
    """Print a line for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--unasked", action="store_true")
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--id-field", default=ID)
    parser.add_argument("--score", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        score(*options.score)
        return
    with tempfile.TemporaryDirectory() as name:
        folder, first = Path(name), 0.0
        model = options.model_dir or write_artifact(folder / "model")
        tables = [options.data_dir] if options.data_dir else [
            write_table(rows, folder / f"{rows:,} rows.parquet") for rows in options.rows
        ]  # fmt: skip
        for table in tables:
            times, peak = measure(model, table, options.id_field, folder / "out", not options.unasked)
            run, first = times.pop("run"), first or peak
            parts = ", ".join(f"{part} {seconds / run:.2%}" for part, seconds in times.items())
            print(f"{table.stem}: {run:.2f} s: {sum(times.values()) / run:.2%} ({parts})", flush=True)
            if options.unasked:
                continue
            record = json.loads((folder / "out/run.json").read_text())
            page, statistics = (folder / "out/report.html").stat().st_size, json.dumps(record["statistics"])
            print(f"  peak {peak:.0f} MB (ratio {peak / first:.2f}), page {page / 1e3:.0f} kB, "
                  f"statistics {len(statistics) / 1e3:.0f} kB", flush=True)  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
