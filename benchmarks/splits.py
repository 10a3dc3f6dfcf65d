#!/usr/bin/env python3
"""Bytes that each of two processes reads of a large table, and the time in which its splits are found.

    python benchmarks/splits.py [--megabytes 2000] [--formats csv parquet] [--group-rows 1048576] [--folder FOLDER]

The script makes a table of an id, a text with quoted commas and line breaks, and four numbers. It scores the table on
two processes with a small artifact of the class ``tabular``. An observer, which is a plugin, notes what Linux has
counted for each process (``rchar``, the bytes that it has read) when the artifact is loaded and after each window. So a
share has everything that a process reads while it scores: also modules that are imported late, and messages of other
processes. The whole is the file for CSV, and for Parquet the columns that are read.

Before that, the splits are found in this process: the time to the first one, and the rate per second of processor time.
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

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import torch

from bsm_core import Registry
from bsm_core.artifact import save_artifact
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import splits_of

FEATURES = [f"feature_{i}" for i in range(4)]
CONFIG: dict[str, Any] = {
    "model_class": "tabular",
    "tab_field_list": FEATURES,
    "cat_field_list": [],
    "num_classes": 2,
    "hidden_common_dim": 16,
}
PIECE = 1 << 16
TEXT = 'The "blue" one, size 8; fits well,\nand looks ' + "better than in the picture; " * 9
OBSERVER = """
import json, os, pathlib
from bsm_core import hookimpl

def note(window):
    counted = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    with open(os.path.join(os.environ["READ_NOTES"], str(os.getpid())), "a") as notes:
        print(json.dumps([window, int(counted["rchar"])]), file=notes)

@hookimpl
def bsm_artifact_loaded(artifact):
    note(None)

@hookimpl
def bsm_window_end(batch, probabilities):
    note(batch.window.index)
"""


def write_artifact(folder: Path) -> Path:
    """Write an artifact of the model class ``tabular``, with random weights."""
    registry = Registry.discover()
    torch.manual_seed(0)
    model = registry.load(registry.resolve("model_class", "tabular"), torch.nn.Module).from_config(CONFIG)
    impute = dict.fromkeys(FEATURES, 0.0)
    return save_artifact(folder, config=CONFIG, state_dict=model.state_dict(), risk_tables={}, impute=impute)


def write_observer(folder: Path) -> Path:
    """Install the observer into a folder of the path."""
    info = folder / "reads-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reads\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bsm.v1.observers]\nreads = reads\n")
    (info / "RECORD").write_text("reads.py,,\n")
    (folder / "reads.py").write_text(OBSERVER)
    return folder


def write_table(path: Path, megabytes: int, group_rows: int) -> int:
    """Write the table, of about this size as CSV, and return its number of rows."""
    random, rows = np.random.default_rng(0), 0
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), *((name, pa.float64()) for name in FEATURES)])
    csv = path.suffix == ".csv"
    writer = pacsv.CSVWriter(path, schema) if csv else pq.ParquetWriter(path, schema)
    size, held = 0, list[pa.Table]()
    with writer:
        while size < megabytes * 1e6:
            ids = pa.array([f"{i:09d}" for i in range(rows, rows + PIECE)])
            texts = pa.array([TEXT[i % 97 :] for i in range(PIECE)])
            piece = pa.table([ids, texts, *(random.normal(size=PIECE) for _ in FEATURES)], schema=schema)
            rows, size = rows + PIECE, size + piece.nbytes + 45 * PIECE  # numbers are longer as text
            held.append(piece)
            if csv or len(held) * PIECE >= group_rows:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))
    return rows


def bytes_to_read(path: Path) -> int:
    """Return the size of a CSV file, or of the columns of a Parquet file that are read."""
    if path.suffix == ".csv":
        return path.stat().st_size
    metadata, wanted = pq.read_metadata(path), {"id", *FEATURES}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(column.total_compressed_size for column in columns if column.path_in_schema in wanted)


def find_splits(path: Path) -> tuple[int, float, float, float]:
    """Return the number of splits, the seconds to the first one and to the last one, and the processor time."""
    source = TableSource.open(path)
    path.read_bytes()[:1]  # the file is in memory then
    began, used, found, first = time.perf_counter(), time.process_time(), 0, 0.0
    for _ in splits_of(source, 4096):
        first = first or time.perf_counter() - began
        found += 1
    return found, first, time.perf_counter() - began, time.process_time() - used


def score(artifact: Path, table: Path, folder: Path) -> tuple[dict[str, Any], list[int]]:
    """Score a table on two processes; return the run record, and the bytes that each process has read."""
    notes = folder / f"notes-{table.suffix[1:]}"
    notes.mkdir()
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "testing", "--id-field", "id", "--run-record"]
    places = ["--model-dir", artifact, "--data-dir", table, "--output-dir", folder / f"out-{table.suffix[1:]}"]
    command += [*map(str, places), "--device", "cpu", "--devices", "2"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path, "READ_NOTES": str(notes)}, check=True)
    read = []
    for file in notes.iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        if len(lines) > 1:  # the process has scored windows
            read.append(lines[-1][1] - lines[0][1])
    record = json.loads((folder / f"out-{table.suffix[1:]}" / "run.json").read_text())
    return record, sorted(read)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"], choices=["csv", "parquet"])
    parser.add_argument("--group-rows", type=int, default=1 << 20, help="rows of a row group of Parquet")
    parser.add_argument("--folder", type=Path, help="where the tables are written (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        artifact = write_artifact(folder / "model")
        write_observer(folder / "site")
        for format in options.formats:
            table = folder / f"table.{format}"
            rows = write_table(table, options.megabytes, options.group_rows)
            size, whole = table.stat().st_size, bytes_to_read(table)
            print(f"{format}: {rows:,} rows, {size / 1e6:,.0f} MB, of which {whole / 1e6:,.0f} MB are to be read")
            found, first, last, used = find_splits(table)
            rate = f", {size / used / 1e9:.2f} GB/s a core" if format == "csv" else ""
            print(f"  {found} splits: the first after {first * 1e3:.1f} ms, all after {last * 1e3:.0f} ms{rate}")
            record, read = score(artifact, table, folder)
            shares = ", ".join(f"{count / whole:.1%}" for count in read)
            print(f"  {record['seconds']:.1f} s on two processes, which have read {shares} of it", flush=True)
            table.unlink()


if __name__ == "__main__":
    main()
