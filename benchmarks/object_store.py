#!/usr/bin/env python3
"""A job from objects to objects against the same job on the disk, with an S3 server on this machine.

    python benchmarks/object_store.py [--megabytes 300] [--format csv]

Both jobs score a table with an artifact without text, so that reading and writing count. The server is moto, a program
in Python that shares the cores with the job: the times are those of a slow store without a network. Processor time is
that of the job alone. Bytes and requests are counted by a proxy before the server.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bsm_core.artifact import save_artifact
from bsm_core.storage.objects import ObjectPath
from bsm_core.tables.write import TableWriter
from bsm_plugins_models.tabular import Tabular

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.object_store import KEY, SECRET, Proxy, make_bucket, s3_server, upload  # noqa: E402

FEATURES = [f"f{i}" for i in range(12)]


def write_artifact(folder: Path) -> Path:
    """Write an artifact with numbers alone."""
    config = {
        "model_class": "tabular",
        "tab_field_list": FEATURES,
        "is_binary": True,
        "num_classes": 2,
        "hidden_common_dim": 8,
    }
    weights = Tabular.from_config(config).state_dict()
    return save_artifact(folder, config=config, state_dict=weights, risk_tables={}, impute={})


def write_table(path: Path, size: int) -> int:
    """Write rows until the file has a size; return their number."""
    random, rows = np.random.default_rng(0), 0
    schema = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in FEATURES), ("note", pa.string())])
    with TableWriter(path, schema, "parquet" if path.suffix == ".parquet" else "csv") as writer:
        while not path.exists() or path.stat().st_size < size:
            numbers = {name: random.normal(size=20_000).round(6) for name in FEATURES}
            ids = [f"{rows + i:09d}" for i in range(20_000)]
            writer.write(pa.table({"id": ids, **numbers, "note": [f"note {i} " * 9 for i in ids]}, schema=schema))
            rows += 20_000
    return rows


def serve(pipe: Any) -> None:
    """Run the S3 server in a process of its own, until the pipe is closed."""
    with s3_server() as endpoint:
        pipe.send(endpoint)
        pipe.recv()


class CountingProxy(Proxy):
    """Proxy that counts bytes by direction and the requests."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.cut = self._count

    def _count(self, direction: str, sent: int, more: bytes) -> bool:
        with self._lock:
            self.counts[direction] += len(more)
            self.counts["requests"] += direction == "up" and more.startswith(
                (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")
            )
        return False


def score(model: Any, data: Any, output: Any) -> tuple[float, float]:
    """Run a job in a new process; return its wall time and its processor time in seconds."""
    places = ["--model-dir", model, "--data-dir", data, "--output-dir", output]
    arguments = ["--job_type", "testing", "--id-field", "id", "--keep-columns", "all", "--device", "cpu", *places]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "bsm_core.run", *map(str, arguments)], check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv")
    options = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    proxy = CountingProxy(here.recv())
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = proxy.url
    bucket = make_bucket(proxy.url, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        artifact, data = write_artifact(Path(folder, "model")), Path(folder, f"data.{options.format}")
        rows = write_table(data, options.megabytes * 1_000_000)
        upload(artifact, bucket / "model")
        (bucket / data.name).put(data)
        name = f"inference_predictions.{options.format}"
        print(f"{rows:,} rows, {data.stat().st_size / 1e6:,.0f} MB in", flush=True)
        wall, cpu = score(artifact, data, Path(folder, "out"))
        proxy.counts.clear()
        wall_s3, cpu_s3 = score(bucket / "model", bucket / data.name, bucket / "out")
        counts = dict(proxy.counts)
        local = hashlib.sha256(Path(folder, "out", name).read_bytes()).hexdigest()
        same = local == hashlib.sha256(read(bucket / "out" / name)).hexdigest()
        out = Path(folder, "out", name).stat().st_size
    print(f"{out / 1e6:,.0f} MB out; the bytes are {'the same' if same else 'NOT THE SAME'}")
    print(f"on the disk:  {wall:6.1f} s, {cpu:6.1f} s of processor time")
    print(f"with S3:      {wall_s3:6.1f} s, {cpu_s3:6.1f} s of processor time")
    print(f"ratio:        {wall_s3 / wall:6.2f}    {cpu_s3 / cpu:6.2f}")
    print(
        f"{counts['requests']:,} requests, {counts['down'] / 1e6:,.0f} MB received, {counts['up'] / 1e6:,.0f} MB sent"
    )
    here.close()


def read(path: ObjectPath) -> bytes:
    """Return the content of a large object."""
    with path.open("rb") as file:
        content: bytes = file.read()
    return content


if __name__ == "__main__":
    main()
