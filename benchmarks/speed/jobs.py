"""Tables and artifacts of the benchmark, and measurements of each system in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from artifacts import MODELS, word_pieces, write_artifact
from data import DATA_SETS, ID, write_table
from flops import encoder_flop, needed_flop
from systems import SYSTEMS, System
from worker import PREDICTIONS

from bsm_core import Predictor

FEW = 8
"""Number of rows of the run that measures start-up."""
COMPARED = 256
"""Number of rows whose probabilities are compared with the reference."""
REFERENCE = System("by_length")
"""System whose probabilities are the reference: plain PyTorch in float32 on the CPU."""


@dataclass(frozen=True)
class Case:
    """Model on a data set.

    Attributes:
        model: Name of the model.
        data: Name of the data set.
        folder: Folder of the case's files.
        artifact: Artifact of the model.
        encoder: Config of the encoder; empty for a model without text.
        lengths: Number of tokens of each chunk, by row.
        new: Number of tokens of each chunk that no earlier row has, by row.
    """

    model: str
    data: str
    folder: Path
    artifact: Path
    encoder: dict[str, Any]
    lengths: list[list[int]] = field(repr=False)
    new: list[list[int]] = field(repr=False)

    def work(self, rows: int) -> dict[str, float]:
        """Return the number of tokens of the first rows, and the GFLOP of all their chunks and of distinct chunks.

        ``needed_gflop`` counts only the operations of ``distinct_gflop`` that a score depends on.
        """
        chunks, distinct = (list(chain(*lengths[:rows])) for lengths in (self.lengths, self.new))
        return {
            "tokens": sum(chunks),
            "gflop": encoder_flop(chunks, self.encoder) / 1e9,
            "distinct_gflop": encoder_flop(distinct, self.encoder) / 1e9,
            "needed_gflop": needed_flop(distinct, self.encoder) / 1e9,
        }


class Jobs:
    """Cases of one run of the benchmark, in a folder.

    Args:
        reviews: The clothing reviews.
        folder: An empty folder.
        scale: Factor for the number of rows of every data set.
    """

    def __init__(self, reviews: pd.DataFrame, folder: Path, scale: float) -> None:
        self.reviews, self.folder, self.scale = reviews, folder, scale
        self._tokenizer = word_pieces()
        self._predictors: dict[str, Predictor] = {}
        self._count = 0

    def case(self, model: str, data: str) -> Case:
        """Write the tables of a case, and the artifact of the model if it does not exist yet."""
        folder = self.folder / f"{model}-{data}"
        folder.mkdir()
        rows = max(FEW + 1, int(DATA_SETS[data].rows * self.scale * MODELS[model].scale))
        table = write_table(data, rows, self.reviews, self._tokenizer, folder / "all.parquet")
        rows = pq.read_metadata(table).num_rows
        artifact = self._artifact(model, table)
        predictor = self._predictors[model]
        encoder = getattr(predictor.model.config, "text_encoder", {})
        lengths, distinct = _lengths(predictor, table) if encoder else ([[]] * rows, [[]] * rows)
        return Case(model, data, folder, artifact, encoder, lengths, distinct)

    def _artifact(self, model: str, table: Path) -> Path:
        place = self.folder / f"{model}-artifact"
        if model not in self._predictors:
            write_artifact(model, place, pd.read_parquet(table))
            self._predictors[model] = Predictor.from_artifact(place)
        return place

    def reference(self, case: Case) -> pd.DataFrame:
        """Return the reference probabilities of the first rows; those of the Predictor for a model without text."""
        rows = _first(case, COMPARED)
        if not case.encoder:
            table = pd.read_parquet(rows)
            return self._predictors[case.model].predict(table).assign(**{ID: table[ID]})
        self._run(case, REFERENCE, "cpu", rows)
        return pd.read_parquet(case.folder / "output" / PREDICTIONS)

    def measure(self, case: Case, system: System, device: str, reference: pd.DataFrame) -> dict[str, Any]:
        """Measure one system once: seconds, rows, memory and largest difference from the reference.

        Raises:
            JobError: The system does not run here; the message says why.
        """
        table = _first(case, max(FEW, len(case.lengths) // system.divisor))
        figures = self._run(case, system, device, table)
        return figures | {"difference": _difference(case.folder / "output" / PREDICTIONS, reference)}

    def _run(self, case: Case, system: System, device: str, table: Path) -> dict[str, Any]:
        self._count += 1
        job_file, result = (self.folder / f"{kind}-{self._count}.json" for kind in ("job", "result"))
        job = {
            "rival": system.rival,
            "flags": system.flags,
            "precision": system.precision,
            "device": device,
            "artifact": str(case.artifact),
            "table": str(table),
            "few": str(_first(case, FEW)),
            "output": str(case.folder / "output"),
            "result": str(result),
        }
        job_file.write_text(json.dumps(job))
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(job_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise JobError(_last_lines(done.stderr) or f"the process ended with status {done.returncode}")
        figures: dict[str, Any] = json.loads(result.read_text())
        return figures


class JobError(Exception):
    """Failure of a system; the message says why."""


def pairs(models: list[str], data: list[str]) -> list[tuple[str, str]]:
    """Return each model with the data sets of its kind."""
    return [(m, d) for m in models for d in data if MODELS[m].kind == DATA_SETS[d].kind]


def systems_for(case: Case, names: list[str], device: str) -> dict[str, System]:
    """Return the named systems that score this kind of rows on this device."""
    kind = MODELS[case.model].kind
    found = {name: SYSTEMS[name] for name in names}
    return {name: s for name, s in found.items() if s.kind in (None, kind) and device in s.devices}


def _first(case: Case, rows: int) -> Path:
    """Write the first rows of the case's table to a file."""
    if rows >= len(case.lengths):
        return case.folder / "all.parquet"
    path = case.folder / f"first-{rows}.parquet"
    if not path.exists():
        pq.write_table(pq.read_table(case.folder / "all.parquet").slice(0, rows), path)
    return path


def _lengths(predictor: Predictor, table: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Return the number of tokens of each chunk by row: of all chunks, and of chunks that no earlier row has."""
    columns = pq.read_table(table)
    wanted = {name: columns[name] for name in predictor.preprocessor.wanted}
    batch, _ = predictor.preprocessor.batch(wanted, columns.num_rows)
    (text,) = batch.texts.values()
    sizes, seen = text.chunk_offsets.diff().tolist(), set()
    everything, new = [], []
    bounds = np.concatenate([[0], text.row_lengths.cumsum(0).numpy()])
    for start, stop in pairwise(bounds.tolist()):
        chunks = text.chunk_ids[start:stop].tolist()
        everything.append([sizes[chunk] for chunk in chunks])
        new.append([sizes[chunk] for chunk in chunks if chunk not in seen])
        seen.update(chunks)
    return everything, new


def _difference(path: Path, reference: pd.DataFrame) -> float:
    """Return the largest difference of a probability over the rows of both tables."""
    both = pd.read_parquet(path).merge(reference, on=ID, suffixes=("", "_reference"))
    names = [name for name in reference.columns if name.startswith("prob_class_")]
    return float(max((both[name] - both[f"{name}_reference"]).abs().max() for name in names))


def _last_lines(text: str) -> str:
    """Return the last lines of a process's standard error: the error, and how to fix it."""
    return "; ".join([line.strip() for line in text.splitlines() if line.strip()][-2:])
