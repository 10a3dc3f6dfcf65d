#!/usr/bin/env python3
"""Speed of bsm compared with other ways to score the same rows, in one run on one machine.

    pip install --group bench
    python benchmarks/speed --reviews reviews.parquet [--models minilm] [--data reviews] [--systems bsm "ONNX Runtime"]

All systems have the same weights, and in float32 the same probabilities. Each measurement runs in a new process. The
systems take turns in several rounds, with measurements of the machine's matrix products between them, and the fastest
round counts. ``worker.py`` describes what is timed.

The whole benchmark takes hours, one model on one data set some minutes. Use ``--scale 0.05`` for a first try, and
``--scale 32`` on a GPU. Results are written as JSON, with the machine, the versions and every round, and as a plot.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
import pandas as pd
import torch
from artifacts import MODELS
from data import DATA_SETS
from jobs import Case, JobError, Jobs, pairs, systems_for
from plot import draw
from systems import SYSTEMS
from table import Result, claims, summary, to_text


def main() -> None:
    """Measure every case and print its table; at the end, print ratios of bsm to the other systems."""
    arguments = parsed()
    reviews = pd.read_parquet(arguments.reviews)
    kept: dict[str, Any] = {"machine": machine.describe(), "measured": _options(arguments), "peaks": [], "results": []}
    print(json.dumps(kept["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(reviews, Path(folder), arguments.scale)
        for model, data in pairs(arguments.models, arguments.data):
            case = jobs.case(model, data)
            for device in devices():
                results, peaks = measured(jobs, case, device, arguments)
                kept["results"] += results
                kept["peaks"] += [{"model": model, "data": data, "device": device, **rate} for rate in peaks]
                show(case, device, results, peaks)
                arguments.out.write_text(json.dumps(kept, indent=1) + "\n")
    if kept["results"]:
        draw(kept["results"], arguments.out.with_suffix(".svg"))
    print("", *claims(kept["results"]), sep="\n")


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/speed", description="Speed of bsm compared with other ways to score."
    )
    parser.add_argument("--reviews", type=Path, required=True, help="the clothing reviews, as Parquet")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL", help=_of(MODELS))
    usual = [name for name, data in DATA_SETS.items() if data.by_default]
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=usual, metavar="DATA", help=_of(DATA_SETS))
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM", help=_of(SYSTEMS)
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of rows of each data set")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each system; the fastest counts")
    parser.add_argument(
        "--out", type=Path, default=Path("speed.json"), help="file of the results; a plot is written beside it"
    )
    arguments = parser.parse_args()
    if not arguments.reviews.is_file():
        parser.error(f"--reviews: there is no file {arguments.reviews}")
    if not pairs(arguments.models, arguments.data):
        parser.error("--data: none of them is a data set for one of --models: text and tabular do not go together")
    return arguments


def _of(names: Iterable[str]) -> str:
    return f"some of {', '.join(names)}"


def devices() -> list[str]:
    """Return the devices to measure on: the CPU, and the GPU if there is one."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def measured(
    jobs: Jobs, case: Case, device: str, arguments: argparse.Namespace
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Return the summaries of the systems on a case, and the matrix products that were measured between them."""
    reference = jobs.reference(case)
    systems = systems_for(case, arguments.systems, device)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    peaks: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        peaks += machine.peaks(device, [case.encoder] if case.encoder else [])
        for name, system in list(systems.items()):
            try:
                rounds[name].append(jobs.measure(case, system, device, reference))
            except JobError as error:
                print(f"{name} is left out, on {case.model}, {case.data}, {device}: {error}", flush=True)
                del systems[name]
            print(f"  round {number + 1}: {name} {_seconds(rounds[name])}", flush=True)
    results = [_result(case, device, name, rounds[name]) for name in systems]
    return [summary(result, machine.best(peaks)) for result in results], peaks


def _seconds(rounds: list[dict[str, Any]]) -> str:
    return f"{rounds[-1]['seconds']:.2f} s" if rounds else "-"


def _result(case: Case, device: str, name: str, rounds: list[dict[str, Any]]) -> Result:
    encoders = rounds[0].get("used", {}).get("encoders") or {"precision": SYSTEMS[name].precision}
    precision = encoders["precision"]
    names = {"model": case.model, "data": case.data, "device": device, "system": name, "precision": precision}
    return {**names, **case.work(rounds[0]["rows"]), "rows": rounds[0]["rows"], "rounds": rounds}


def show(case: Case, device: str, results: list[Result], peaks: list[dict[str, Any]]) -> None:
    """Print the results of a case."""
    print(f"\n{MODELS[case.model].about}; {DATA_SETS[case.data].about}; {device}\n")
    print(to_text(results))
    for precision, rate in machine.best(peaks).items():
        if "gflops" in rate:
            print(f"{precision} matrix product: {rate['gflops']:,.0f} GFLOP/s ({rate['kernel']}, {rate['shape']})")
        else:
            print(f"{precision} matrix product: none ({rate['failed']})")
    print(flush=True)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments, without paths, and the time."""
    asked = {key: value for key, value in vars(arguments).items() if not isinstance(value, Path)}
    return asked | {"finished": datetime.now(UTC).isoformat(timespec="seconds")}


if __name__ == "__main__":
    main()
