#!/usr/bin/env python3
"""Cost of row issues on clean data, and whether each bad cell is listed exactly once.

    python benchmarks/row_issues.py [--rows 200000] [--repeat 5] [--model-dir ARTIFACT --data-dir CLEAN --id-field ID]

Without an artifact, the script scores a table of ten numbers with the model class ``tabular``, which is the worst case:
the model takes next to no time. The processor time of a run on clean data is measured, and within it that of the
functions that only row issues and counts of ids need. Then 1 % of the cells are made bad in four ways, and the
row-issues file is compared with them, for one process and for two.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabular import FEATURES, ID, write_artifact

from bsm_core.preprocess import dataset, findings
from bsm_core.scoring import job
from bsm_core.scoring.engines import callbacks, finish
from bsm_core.scoring.output import row_issues
from bsm_core.tables.id_counts import IdCounts

MEASURED: dict[str, list[tuple[Any, str]]] = {
    "row issues": [
        (dataset, "in_order"),
        (findings.Findings, "counts"),
        (findings.Findings, "with_failed_rows"),
        (callbacks, "issues_table"),
        (row_issues.BadRowLimit, "add"),
        (row_issues.CommitReview, "end"),
        (finish, "RowIssuesFile"),
    ],
    "counts of missing and repeated ids": [(IdCounts, "add"), (IdCounts, "counted")],
}
"""Functions that only row issues and counts of ids need."""
BAD = {
    "x": "not a number",
    "-inf": "infinite",
    "1e39": "beyond the range of float32",
    b"\xff": "bytes that are not UTF-8",
}


def main() -> None:
    """Print the share of row issues, and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--id-field", default=ID)
    options = parser.parse_args()
    spent = dict.fromkeys(MEASURED, 0.0)
    for part, functions in MEASURED.items():
        for owner, name in functions:
            setattr(owner, name, _timed(getattr(owner, name), spent, part))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = options.model_dir or write_artifact(work / "model")
        clean = options.data_dir or write_clean(options.rows, work / "clean.csv")
        shares: list[list[float]] = []
        for _ in range(options.repeat):
            spent.update(dict.fromkeys(spent, 0.0))
            began = time.process_time()
            score(model, clean, work, options.id_field)
            total = time.process_time() - began
            shares.append([seconds / total for seconds in spent.values()])
            parts = ", ".join(f"{seconds * 1000:.1f} ms for {part}" for part, seconds in spent.items())
            print(f"clean data: {total:.2f} s, of these {parts}")
        for part, share in zip(MEASURED, map(statistics.median, zip(*shares, strict=True)), strict=True):
            print(f"{part} on clean data, median: {share:.2%}")
        if options.model_dir is None:
            expected = write_bad(clean, work / "bad.csv")
            for processes in (1, 2):
                score(model, work / "bad.csv", work, ID, devices=processes)
                with (work / "issues.csv").open(newline="") as file:
                    found = [tuple(row) for row in csv.reader(file)][1:]
                verdict = "each listed once, in order" if found == expected else "NOT AS EXPECTED"
                print(f"{processes} process(es): {len(expected):,} bad cells, {len(found):,} issues: {verdict}")


def _timed(function: Callable[..., Any], spent: dict[str, float], part: str) -> Callable[..., Any]:
    """Return the function; the time it takes, but for that of measured functions within it, is added to ``spent``."""

    def call(*arguments: Any, **options: Any) -> Any:
        began, before = time.thread_time(), sum(spent.values())
        try:
            return function(*arguments, **options)
        finally:
            spent[part] += time.thread_time() - began - (sum(spent.values()) - before)

    call.check = getattr(function, "check", None)  # type: ignore[attr-defined]
    return call


def score(model: Path, data: Path, work: Path, id_field: str, devices: int = 1) -> None:
    """Score a table and list its row issues."""
    flags = {"job_type": "inference", "id_field": id_field, "model_dir": model, "data_dir": data, "device": "cpu"}
    flags |= {"output_dir": work / "output", "row_issues": work / "issues.csv", "devices": devices}
    job.run(flags, {})


def write_clean(rows: int, path: Path) -> Path:
    """Write ids and ten columns of numbers."""
    numbers = np.random.default_rng(0).normal(size=(rows, len(FEATURES))).round(4)
    pd.DataFrame(numbers, columns=FEATURES, index=pd.Index([f"{i:08d}" for i in range(rows)], name=ID)).to_csv(path)
    return path


def write_bad(clean: Path, path: Path) -> list[tuple[str, ...]]:
    """Write a table in which 1 % of the cells are bad; return the issues that must be found."""
    lines = clean.read_bytes().splitlines()
    header, cells = lines[0], [line.split(b",") for line in lines[1:]]
    random = np.random.default_rng(1)
    bad = np.flatnonzero(random.random(len(cells) * len(FEATURES)) < 0.01)
    kinds, issues = list(BAD.items()), []
    for number, place in enumerate(bad.tolist()):
        row, feature = divmod(place, len(FEATURES))
        value, reason = kinds[number % len(kinds)]
        cells[row][feature + 1] = value if isinstance(value, bytes) else value.encode()
        shown = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        issues.append((str(row), cells[row][0].decode(), FEATURES[feature], "feature", reason, shown))
    path.write_bytes(b"\n".join([header, *(b",".join(row) for row in cells)]) + b"\n")
    return issues


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
