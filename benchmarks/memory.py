#!/usr/bin/env python3
"""Peak memory of whole runs on a table and on a table with ten times the rows.

    python benchmarks/memory.py --reviews reviews.parquet [--times 10] [--formats csv tsv parquet]

Each run scores a table with the example artifact in a new process. The script prints the peak resident memory of each
run and their ratio, and checks that all ids are returned in order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from bsm_core.tables.convert import convert
from bsm_core.tables.data_files import Format
from bsm_core.tables.read import TableSource

MODEL = Path(__file__).parents[1] / "examples/reviews/model.tar.gz"
ID = "review_id"


def write_table(reviews: pd.DataFrame, times: int, format: Format, folder: Path) -> Path:
    """Write the reviews ``times`` times, with ids such as ``0000042``."""
    table = pd.concat([reviews] * times, ignore_index=True)
    table.insert(0, ID, [f"{i:07d}" for i in range(len(table))])
    parquet = folder / f"reviews-{times}.parquet"
    table.to_parquet(parquet, index=False)
    if format == "parquet":
        return parquet
    path = parquet.with_suffix(f".{format}")
    convert(parquet, path)
    return path


def measure(table: Path, output: Path) -> tuple[float, float]:
    """Score a table in a new process, and return its peak resident memory in MB and its seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", ID]
    places = ["--model-dir", MODEL, "--data-dir", table, "--output-dir", output]
    process = subprocess.Popen([*command, *map(str, places)], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run failed: {(output / '_FAILURE').read_text()}")
    return usage.ru_maxrss / 1024, time.monotonic() - began


def count_in_order(path: Path) -> int:
    """Return the number of rows of a prediction file, after checking that its ids are ``0000000``, ``0000001``, …."""
    rows = 0
    for window in TableSource.open(path).windows([ID]):
        for value in window.table[ID].to_pylist():
            if (value.decode() if isinstance(value, bytes) else value) != f"{rows:07d}":
                raise SystemExit(f"{path}: row {rows} has the id {value!r}")
            rows += 1
    return rows


def main() -> None:
    """Measure each format and print a table."""
    parser = argparse.ArgumentParser(description="Peak memory of whole runs.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--formats", nargs="+", default=["csv", "tsv", "parquet"])
    arguments = parser.parse_args()
    reviews = pd.read_parquet(arguments.reviews)
    print(f"{'format':8} {'rows':>9} {'seconds':>8} {'peak MB':>8} {'ratio':>6}")
    for format in arguments.formats:
        first = None
        for times in (1, arguments.times):
            with tempfile.TemporaryDirectory() as folder:
                table = write_table(reviews, times, format, Path(folder))
                peak, seconds = measure(table, Path(folder) / "out")
                rows = count_in_order(Path(folder) / f"out/inference_predictions.{format}")
            first = first or peak
            print(f"{format:8} {rows:9,} {seconds:8.1f} {peak:8.0f} {peak / first:6.2f}", flush=True)


if __name__ == "__main__":
    main()
