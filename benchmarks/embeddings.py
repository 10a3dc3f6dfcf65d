#!/usr/bin/env python3
"""Cost of ``--emit embeddings``: a run with it against a plain one, in turns.

    python benchmarks/embeddings.py [--rows 20000] [--turns 5]
                                    [--model-dir ARTIFACT --data-dir TABLE --id-field ID]

Without an artifact, the script scores the reviews of the example with its model; a number is added to each text,
because equal texts of a window are encoded once. Each run is a new process. Its time is counted from the first window
to the markers, without the start-up, as the processor time of all threads and as seconds of the clock. The ratio is
that of the shortest plain run and the shortest run with embeddings, because other work of the machine only adds to a
time. On a machine with other work, that is not exact; a second ratio adds to a plain run what making and writing
tables takes more with embeddings. The script also prints the size of both files and the peak resident memory.
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

import pandas as pd
from reviews import EXAMPLE

from bsm_core.predictor.embedding_columns import EmbeddingColumns
from bsm_core.scoring import job
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.output.part import Part
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.write import TableWriter

OUTPUT = [
    (EmbeddingColumns, "table"),
    (Part, "packed"),
    (Sink, "_read"),
    (TableWriter, "write"),
    (TableWriter, "close"),
]
"""Functions that make and write tables, each in one thread, whose processor time other work does not change much."""


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Return the function; the processor time of its thread is added to ``spent``."""

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            spent.append(time.thread_time() - began)

    return call


def score(model: str, data: str, id_field: str, output: str, emit: str) -> None:
    """Score a table in this process, and print what :func:`measure` returns, but the memory, as JSON."""
    began: list[tuple[float, float]] = []
    spent: list[float] = []
    predict = Scorer.predict

    def begin(*arguments: Any, **options: Any) -> None:
        began.append((time.process_time(), time.perf_counter()))
        predict(*arguments, **options)

    Scorer.predict = begin  # type: ignore[method-assign]
    for owner, name in OUTPUT:
        setattr(owner, name, timed(getattr(owner, name), spent))
    flags = {"model_dir": model, "data_dir": data, "id_field": id_field, "output_dir": output, "device": "cpu"}
    job.run({**flags, "job_type": "testing", "backend": "auto", "emit": emit or None}, {})
    processor, clock = began[0]
    print(json.dumps([time.process_time() - processor, sum(spent), time.perf_counter() - clock]))


def measure(model: Path, data: Path, id_field: str, output: Path, emit: str) -> tuple[float, float, float, float]:
    """Score a table in a new process.

    Returns:
        The processor time, that of the functions in :data:`OUTPUT`, the seconds, and the peak resident memory in MB.
    """
    command = [sys.executable, __file__, "--score", *map(str, (model, data, id_field, output, emit))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the run failed")
    return (*json.loads(said.splitlines()[-1]), usage.ru_maxrss / 1024)


def write_reviews(path: Path, rows: int) -> None:
    """Write the reviews of the example again and again, each with a text of its own."""
    reviews = pd.read_csv(EXAMPLE / "reviews.csv", dtype=str, keep_default_na=False)
    table = pd.concat([reviews] * -(-rows // len(reviews)), ignore_index=True)[:rows]
    table["review_id"] = [f"{row:09d}" for row in range(rows)]
    table["Review Text"] += [f" {row}" for row in range(rows)]
    table.to_csv(path, index=False)


def main() -> None:
    """Score in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model-dir", type=Path, default=EXAMPLE / "model.tar.gz")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--id-field", default="review_id")
    parser.add_argument("--score", nargs=5)
    arguments = parser.parse_args()
    if arguments.score:
        score(*arguments.score)
        return
    kinds = {"plain": "", "with embeddings": "embeddings"}
    found: dict[str, list[tuple[float, float, float, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = arguments.data_dir or folder / "reviews.csv"
        if arguments.data_dir is None:
            write_reviews(data, arguments.rows)
        for turn in range(arguments.turns):
            for kind, emit in sorted(kinds.items(), reverse=turn % 2 == 1):
                output = folder / kind.replace(" ", "-")
                found[kind].append(measure(arguments.model_dir, data, arguments.id_field, output, emit))
                print(turn, kind, *(f"{value:.2f}" for value in found[kind][-1]), file=sys.stderr)
        sizes = {path.name: path.stat().st_size for path in (folder / "with-embeddings").glob("inference_*")}
    best = {kind: [min(values) for values in zip(*runs, strict=True)] for kind, runs in found.items()}
    print("| run | processor time | of it, making and writing tables | seconds | peak memory |\n|---|---|---|---|---|")
    for kind, (processor, output_time, seconds, memory) in best.items():
        print(f"| {kind} | {processor:.2f} s | {output_time:.3f} s | {seconds:.2f} s | {memory:.0f} MB |")
    plain, emitting = best.values()
    print(f"ratio of runs: processor time {emitting[0] / plain[0]:.3f}, seconds {emitting[2] / plain[2]:.3f}")
    print(f"ratio by what tables need: {1 + (emitting[1] - plain[1]) / plain[0]:.3f}")
    print(", ".join(f"{path}: {size / 1e6:.1f} MB" for path, size in sorted(sizes.items())))


if __name__ == "__main__":
    main()
