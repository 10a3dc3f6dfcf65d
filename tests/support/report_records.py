"""Run records for tests of the report: with every section, with odd names, and of many features."""

from __future__ import annotations

from typing import Any

import numpy as np

from bsm_core.artifact.training_distributions import (
    CategoryDistribution,
    NumberDistribution,
    TextDistribution,
    TrainingDistributions,
)
from bsm_core.metrics.labeled import Labeled
from bsm_core.report.binning import Binning, Scored, TextArrays, TextLimits
from bsm_core.report.run_statistics import as_record
from bsm_core.report.statistics import Statistics

ODD = '<script>alert(1)</script> & "it\'s" \u202e ünï 漢字'
"""A name that breaks a page that does not escape it."""


def trained(numbers: int = 1) -> TrainingDistributions:
    """Distributions of 1,000 training rows: one number is even, one category is a half."""
    even = NumberDistribution(edges=[float(edge) for edge in range(0, 100, 5)], counts=[48] * 20 + [40], missing=0)
    return TrainingDistributions(
        rows=1_000,
        classes=[600, 400],
        numbers={f"number {index}": even for index in range(numbers)},
        categories={"channel": CategoryDistribution(counts={"web": 500, "shop": 500}, other=0, missing=0)},
        texts={"chat": TextDistribution(chunks=[0, 500, 500], tokens=[0, 0, 1_000], missing=0)},
        scores=[[10] * 100, [10] * 100],
    )


def record(rows: int = 3_000, *, classes: int = 2, numbers: int = 3, names: list[str] | None = None) -> dict[str, Any]:
    """A run record with every section; the second half of its rows has higher scores."""
    rng = np.random.default_rng(5)
    features = ["channel", ODD, *(f"number {index}" for index in range(numbers))]
    fills = dict.fromkeys(features, -1.0)
    limits = {"chat": TextLimits(16, 3)}
    binning = Binning.of(features, {"channel", ODD}, fills, limits, trained() if classes == 2 else None)
    total, counts = Statistics(), {"missing:number 0": 0.0, "bad_rows": 7, "ids:repeated": 2}
    counts |= {"reason:feature:not a number:number 0": 5, f"reason:read:bytes that are not UTF-8:{ODD}": 2}
    for start in range(0, rows, 500):
        size = min(500, rows - start)
        logits = rng.normal(0, 2, (size, classes))
        logits[:, -1] += 2.0 * (start >= rows / 2)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        lengths = rng.integers(0, 4, size)
        chunks = rng.integers(0, 3, lengths.sum())
        matrix = rng.gamma(2.0, 12.0, (size, len(features))).astype(np.float32)
        part = Scored(
            start,
            p,
            {"chat": TextArrays(np.array([0, 16, 24, 27]), chunks, lengths)},
            matrix,
            {},
            {"channel": {"web": size // 2, "shop": size // 4}, ODD: {ODD: size}},
            {"channel": {"mail": size - size // 2 - size // 4}},
            lambda found: [f"{ODD} {row}" for row in found],
        )
        total.add(Statistics.from_bytes(binning.statistics(part).to_bytes()))
    return {
        "settings": {"data_dir": f"/data/{ODD}.csv", "model_dir": "/model", "id_field": "id", "device": "auto"},
        "device": {"asked": "auto", "used": "1 CPU process(es)"},
        "components": [
            {"kind": "model_class", "name": "toy", "column": None, "distribution": "acme", "version": "1.0"}
        ],
        "artifact": {"model.pth": "ab" * 32},
        "self_check": {"largest_difference": 1e-7},
        "encoders": {"precision": "fp32", "backends": {"text": "tuned"}},
        "versions": {"bsm": "1.0", "torch": "2.13.0"},
        "attempts": [{"attempt": 1, "host": ODD, "began": "2026-11-28T10:00:00", "device": "CPU", "rows": rows}],
        "rows": rows,
        "windows": 6,
        "counts": counts,
        "finished": "2026-11-28T10:01:00+00:00",
        "seconds": 12.5,
        "output": "inference_predictions.csv",
        "profile": {"reading": 1.0, "chat: tokenizer": 2.5, "model": 6.0, "commit": 0.5, "total": 11.0},
        "statistics": as_record(total, binning, names or [*range(classes)], counts),
    }


def labeled_rows(rows: int = 2_000, classes: int = 2, names: list[str] | None = None) -> Labeled:
    """Labeled rows whose labels fit their probabilities."""
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 2, (rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    return Labeled.of(p, labels, names or [f"class {index}" for index in range(classes)], resamples=50)
