#!/usr/bin/env python3
"""Time and memory of ``bsm evaluate`` for a million rows, with intervals from 1,000 resamples.

    python benchmarks/evaluate.py [--rows 1000000] [--classes 2 5] [--formats csv parquet]

The script writes predictions and labels, in another order, with ids such as ``row-0000042``, then evaluates them in a
new process. It prints the wall time, the time without reading and joining, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

EVALUATE = """
import json, resource, sys, time
from bsm_core import evaluate
module, spent = sys.modules["bsm_core.evaluation.evaluate"], []

def timed(*args):
    began = time.perf_counter()
    found = measure(*args)
    spent.append(time.perf_counter() - began)
    return found

measure, module.measure = module.measure, timed
began = time.perf_counter()
found = evaluate(sys.argv[1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([found.rows, time.perf_counter() - began, spent[0], peak]))
"""


def write(folder: Path, rows: int, classes: int, format: str) -> tuple[Path, Path]:
    """Write predictions and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = pa.array([f"row-{i:07d}" for i in range(rows)])
    columns = {f"prob_class_{i}": probabilities[:, i] for i in range(classes)}
    order = rng.permutation(rows)
    tables = pa.table({"id": ids, **columns}), pa.table({"id": ids.take(pa.array(order)), "y": labels[order]})
    paths = folder / f"predictions.{format}", folder / f"labels.{format}"
    for table, path in zip(tables, paths, strict=True):
        pq.write_table(table, path) if format == "parquet" else pacsv.write_csv(table, path)
    return paths


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 5])
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"])
    options = parser.parse_args()
    print("classes  format   rows       seconds  of these, metrics and intervals  peak memory")
    for classes in options.classes:
        for format in options.formats:
            with tempfile.TemporaryDirectory() as folder:
                paths = write(Path(folder), options.rows, classes, format)
                command = [sys.executable, "-c", EVALUATE, *map(str, paths)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows, seconds, measuring, peak = json.loads(done.stdout)
            print(f"{classes:<7}  {format:<7}  {rows:<9,}  {seconds:7.1f}  {measuring:<31.1f}  {peak:,.0f} MB")


if __name__ == "__main__":
    main()
