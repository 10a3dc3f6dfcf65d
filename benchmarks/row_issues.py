#!/usr/bin/env python3
"""Cost of row issues on clean data, and whether each bad cell is listed exactly once.

    python benchmarks/row_issues.py [--rows 200000] [--repeat 3] [--model-dir ARTIFACT --data-dir CLEAN --id-field ID]

Without an artifact, the script scores a table of ten numbers with the model class ``tabular``, which is the worst case:
the model takes next to no time. A run on clean data is timed, and within it the functions that only row issues and
counts of ids need. Then 1 % of the cells are made bad in four ways, and the row-issues file is compared with them, for
one process and for two.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabular import FEATURES, ID, write_artifact

from bsm_core.preprocess import dataset, findings
from bsm_core.scoring import job, row_issues
from bsm_core.scoring.engines import callbacks, local
from bsm_core.tables.id_counts import IdCounts

MEASURED: list[tuple[Any, str]] = [
    (dataset, "in_order"),
    (findings.Findings, "counts"),
    (findings.Findings, "with_failed_rows"),
    (callbacks, "issues_table"),
    (row_issues.BadRowLimit, "add"),
    (row_issues.CommitReview, "end"),
    (row_issues.CommitReview, "publish"),
    (local, "RowIssuesFile"),
    (IdCounts, "add"),
]
"""Functions that only row issues and counts of ids need. None of them calls another one of them."""
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
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--id-field", default=ID)
    options = parser.parse_args()
    spent = [0.0]
    for owner, name in MEASURED:
        setattr(owner, name, _timed(getattr(owner, name), spent))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = options.model_dir or write_artifact(work / "model")
        clean = options.data_dir or write_clean(options.rows, work / "clean.csv")
        shares = []
        for _ in range(options.repeat):
            spent[0], began = 0.0, time.perf_counter()
            score(model, clean, work, options.id_field)
            total = time.perf_counter() - began
            shares.append(spent[0] / total)
            print(f"clean data: {total:.2f} s, of these {spent[0] * 1000:.1f} ms for row issues: {shares[-1]:.2%}")
        print(f"the cost of row issues on clean data: {min(shares):.2%}")
        if options.model_dir is None:
            expected = write_bad(clean, work / "bad.csv")
            for processes in (1, 2):
                score(model, work / "bad.csv", work, ID, devices=processes)
                with (work / "issues.csv").open(newline="") as file:
                    found = [tuple(row) for row in csv.reader(file)][1:]
                verdict = "each listed once, in order" if found == expected else "NOT AS EXPECTED"
                print(f"{processes} process(es): {len(expected):,} bad cells, {len(found):,} issues: {verdict}")


def _timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[0] += time.perf_counter() - began

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
