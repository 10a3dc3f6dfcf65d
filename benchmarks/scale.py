#!/usr/bin/env python3
"""Scaling over processes and actors of one machine, and how many rows a second the driver of the Ray engine handles.

    pip install --group bench
    python benchmarks/scale.py [processes] [driver] [--model minilm] [--rows 4000] [--rounds 3] [--json results.json]

``processes``: the example's reviews, again and again, on one process with one core, on two processes with a core each,
and on two actors of Ray with a core each; one window is 64 rows. The rate is that of the rows after the first third,
from the times at which the manifest has them: start-up does not count, the end does. The best of the rounds counts.

``driver``: 64 actors that only sleep, in the place of Ray's, and all of bsm's own driver: the table is read for
splits, they are handed out, parts of 4,096 rows come back, are written and flushed to the disk, and are committed. The
actors sleep as long as they would need to score 1.5 million rows a second together; with ``no sleep`` they answer at
once, which shows where the driver stops. What Ray itself needs to carry 50 MB/s of parts is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks" / "speed")]
WINDOW_ROWS = 64
ACTORS, RATE = 64, 1_500_000


def artifact(model: str, folder: Path) -> Path:
    """Return the example artifact, or write one of the benchmark of the speed."""
    if model == "tiny":
        return ROOT / "examples" / "reviews" / "model.tar.gz"
    import pandas as pd
    from artifacts import write_artifact

    reviews = pd.read_csv(ROOT / "examples" / "reviews" / "reviews.csv", dtype={"review_id": str})
    return write_artifact(model, folder / "model", reviews[reviews["Review Text"].notna()])


def rate(arguments: list[str], cpus: int, output: Path, rows: int) -> float:
    """Run the command on some cores; return the rows per second after the first third of the rows."""
    from bsm_core.scoring.output.manifest import WorkFolder

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["taskset", "--cpu-list", f"0-{cpus - 1}", sys.executable, "-m", "bsm_core.run", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    work, times, done, read = WorkFolder(output), dict[int, float](), 0, 0
    while process.poll() is None:
        done, read = work.rows_on(done, read)
        times.setdefault(done, time.monotonic())
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit((output / "_FAILURE").read_text())
    first, last = next(done for done in times if done >= rows / 3), max(times)
    return (last - first) / (times[last] - times[first])


def processes(model: str, rows: int, rounds: int) -> dict[str, float]:
    """Measure and print the rates."""
    from resume import write_table

    rates: dict[str, float] = {}
    ways: Mapping[str, tuple[int, list[str]]] = {
        "one process": (1, []),
        "two processes": (2, ["--devices", "2"]),
        "two actors": (2, ["--engine", "ray", "--num-actors", "2"]),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened, data = artifact(model, folder), write_table(rows, folder / "reviews.csv")
        for number in range(rounds):
            for way, (cpus, flags) in ways.items():
                output = folder / f"{way}-{number}"
                places = ["--model-dir", opened, "--data-dir", data, "--output-dir", output]
                shape = ["--id-field", "review_id", "--device", "cpu", "--window-rows", WINDOW_ROWS]
                words = [str(word) for word in ("--job_type", "testing", *places, *shape, *flags)]
                rates[way] = max(rates.get(way, 0.0), rate(words, cpus, output, rows))
    one, two, ray = rates.values()
    for way, found in rates.items():
        print(f"{way:14} {found:10,.1f} rows/s")
    print(f"two processes / one process: {two / one:.3f}; two actors / two processes: {ray / two:.3f}", flush=True)
    return rates


class SleepingActor:
    """Actor that sleeps while it should score.

    Attributes:
        seconds: Seconds for each window.
        data, sha256: Content of each part, and its checksum.
    """

    seconds = 0.0
    data: pa.Buffer
    sha256 = ""

    def __init__(self, job: Any, plan: Any, archive: bytes) -> None:
        self._one_at_a_time = threading.Lock()

    def start(self, earlier: Mapping[str, str]) -> Any:
        """Be ready."""
        from bsm_core.scoring.engines.ray_actor import Answer, Readiness

        return Answer(Readiness(None, None))

    def score(self, item: Any) -> Any:
        """Sleep, and return parts that were made before."""
        from bsm_core.scoring.engines.ray_actor import Answer
        from bsm_core.scoring.output.manifest import PartRecord
        from bsm_core.scoring.output.part import PackedPart
        from bsm_core.tables.windows import Window

        first, windows = (item.index, 1) if isinstance(item, Window) else (item.first, item.windows)
        with self._one_at_a_time:
            time.sleep(self.seconds * windows)
        parts = []
        for number in range(first, first + windows):
            last = item.last and number == first + windows - 1
            record = PartRecord(number, 4096, last, None, self.data.size, self.sha256, {}, 1, ((0, 4096),))
            parts.append(PackedPart(record, self.data, 0.5))
        return Answer(parts)

    def finish(self) -> Any:
        """End."""
        from bsm_core.runtime.profile import Times
        from bsm_core.scoring.engines.ray_actor import Answer

        return Answer(Times())


def driver(rows: int) -> dict[str, float]:
    """Measure and print what the driver handles."""
    import hashlib

    from splits import FEATURES, write_artifact
    from support.ray_stand_in import threads_for_actors

    from bsm_core.scoring import job
    from bsm_core.scoring.engines.ray_driver import Driver
    from bsm_core.scoring.output.part import Part

    rows = rows // 4096 * 4096
    part = pa.table({"id": [f"{i:09d}" for i in range(4096)], "p0": np.zeros(4096), "p1": np.ones(4096)})
    part = part.rename_columns(["id", "prob_class_0", "prob_class_1"])
    SleepingActor.data = Part(0, True, None, part, {}).packed(1).data
    SleepingActor.sha256 = hashlib.sha256(SleepingActor.data).hexdigest()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = write_artifact(folder / "model"), folder / "table.parquet"
        schema = pa.schema([("id", pa.string()), *((feature, pa.float64()) for feature in FEATURES)])
        with pq.ParquetWriter(data, schema) as table:
            cells = {"id": part["id"], **dict.fromkeys(FEATURES, part["prob_class_0"])}
            group = pa.concat_tables([pa.table(cells, schema=schema)] * 16)
            for begin in range(0, rows, len(group)):
                table.write_table(group.slice(0, rows - begin))
        for what, seconds in (("sleeping", 4096 * ACTORS / RATE), ("no sleep", 0.0)):
            SleepingActor.seconds, score, loop = seconds, Driver.score, [0.0, 0.0]

            def timed(self: Driver, score: Any = score, loop: list[float] = loop) -> None:
                began, used = time.monotonic(), time.thread_time()
                score(self)
                loop[:] = time.monotonic() - began, time.thread_time() - used

            Driver.score = timed  # type: ignore[method-assign]
            flags = {"model_dir": model, "data_dir": data, "output_dir": folder / what, "engine": "ray"}
            began = time.monotonic()
            with threads_for_actors(SleepingActor, ACTORS):
                job.run({**flags, "job_type": "testing", "id_field": "id", "device": "cpu"}, {})
            whole = time.monotonic() - began
            Driver.score = score  # type: ignore[method-assign]
            found[what] = rows / loop[0]
            print(
                f"{ACTORS} actors, {what}: {rows:,} rows at {found[what]:,.0f} rows/s in the driver's loop, which"
                f" used a core for {loop[1] / loop[0]:.0%} of the time; all else took {whole - loop[0]:.1f} s",
                flush=True,
            )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["processes", "driver"], metavar="processes|driver")
    parser.add_argument("--model", default="minilm", choices=["minilm", "tiny"])
    parser.add_argument("--rows", type=int, default=4000, help="rows of each run on processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--driver-rows", type=int, default=20_000_000)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    kept: dict[str, Any] = {}
    if "processes" in options.parts:
        kept["processes"] = processes(options.model, options.rows, options.rounds)
    if "driver" in options.parts:
        kept["driver"] = driver(options.driver_rows)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
