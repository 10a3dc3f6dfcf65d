#!/usr/bin/env python3
"""Speed and memory of the model class ``tabular``, from Parquet to Parquet.

    python benchmarks/tabular.py [--rows 100000 1000000] [--repeat 3] [--json results.json]

The script makes an artifact with random weights, and tables of an id and ten features with missing cells. It scores
each table in a new process, and prints the best rate of the repeats without start-up (reading, scoring and writing,
from ``run.json``), the share of each stage, and the peak resident memory compared with the first table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bsm_core import Registry
from bsm_core.artifact import save_artifact
from bsm_core.tables.read import TableSource

FEATURES = [f"feature_{i}" for i in range(10)]
CONFIG: dict[str, Any] = {
    "model_class": "tabular",
    "tab_field_list": FEATURES,
    "cat_field_list": [],
    "num_classes": 2,
    "hidden_common_dim": 64,
}
ID = "id"
MISSING = 0.02
"""Fraction of the cells that are missing."""
PIECE = 1 << 16


def write_artifact(folder: Path) -> Path:
    """Write an artifact of the model class, with random weights."""
    registry = Registry.discover()
    torch.manual_seed(0)
    model = registry.load(registry.resolve("model_class", "tabular"), torch.nn.Module).from_config(CONFIG)
    impute = dict.fromkeys(FEATURES, 0.0)
    return save_artifact(folder, config=CONFIG, state_dict=model.state_dict(), risk_tables={}, impute=impute)


def write_table(rows: int, path: Path) -> Path:
    """Write ten columns of float64 with missing cells, and ids such as ``0000042``.

    It is written in pieces: a process is said to have had at least the memory of the one that started it.
    """
    random = np.random.default_rng(0)
    schema = pa.schema([(ID, pa.string()), *((name, pa.float64()) for name in FEATURES)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            ids = pa.array([f"{i:07d}" for i in range(start, start + count)])
            cells = [pa.array(random.normal(size=count), mask=random.random(count) < MISSING) for _ in FEATURES]
            writer.write_table(pa.table([ids, *cells], schema=schema))
    return path


def measure(artifact: Path, table: Path, output: Path) -> tuple[dict[str, Any], float]:
    """Score a table in a new process, and return its run record and its peak resident memory in MB."""
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", ID]
    places = ["--model-dir", artifact, "--data-dir", table, "--output-dir", output]
    process = subprocess.Popen([*command, *map(str, places), "--profile", "--run-record"], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run failed: {(output / '_FAILURE').read_text()}")
    record: dict[str, Any] = json.loads((output / "run.json").read_text())
    return record, usage.ru_maxrss / 1024


def check(path: Path, rows: int) -> None:
    """Check that the predictions have every id, in order."""
    seen = 0
    for window in TableSource.open(path).windows([ID]):
        ids = window.table[ID].to_pylist()
        if ids != [f"{i:07d}" for i in range(seen, seen + len(ids))]:
            raise SystemExit(f"{path}: the ids after row {seen} are not those of the table")
        seen += len(ids)
    if seen != rows:
        raise SystemExit(f"{path}: {seen} rows, expected {rows}")


def main() -> None:
    """Measure each table and print a line for it, then the stages of the last table."""
    parser = argparse.ArgumentParser(description="Rate and memory of the model class tabular.")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    arguments = parser.parse_args()
    kept: list[dict[str, Any]] = []
    print(f"{'rows':>10} {'seconds':>8} {'rows/s':>10} {'peak MB':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = write_artifact(folder / "model")
        for rows in arguments.rows:
            table = write_table(rows, folder / f"{rows}.parquet")
            runs = [measure(artifact, table, folder / "out") for _ in range(arguments.repeat)]
            check(folder / "out/inference_predictions.parquet", rows)
            record, _ = min(runs, key=lambda run: run[0]["profile"]["total"])
            peak = max(peak for _, peak in runs)
            seconds = record["profile"]["total"]
            kept.append({"rows": rows, "peak_mb": peak, "profile": record["profile"], "versions": record["versions"]})
            ratio = peak / kept[0]["peak_mb"]
            print(f"{rows:10,} {seconds:8.2f} {rows / seconds:10,.0f} {peak:8.0f} {ratio:6.2f}", flush=True)
    for what, taken in record["profile"].items():
        print(f"  {what:24} {taken / rows * 1e6:6.2f} µs/row {taken / seconds:6.1%}")
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
