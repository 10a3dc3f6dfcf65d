"""Clothing reviews in one split, and a training config, for several benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.classification import binary_auroc

EXAMPLE = Path(__file__).parents[1] / "examples/reviews"
LABEL = "Recommended IND"


class Splits(NamedTuple):
    """Rows to train on, rows to choose the best epoch with, and the held-out fifth to measure on."""

    training: pd.DataFrame
    validation: pd.DataFrame
    held_out: pd.DataFrame


def split(path: Path, training: int, validation: int = 0) -> Splits:
    """Split the reviews in the same way every time; the held-out fifth is that of ``examples/reviews/train.py``."""
    reviews = pd.read_parquet(path)
    order = np.random.default_rng(0).permutation(len(reviews))
    fifth = len(reviews) // 5
    drawn = order[fifth : fifth + training + validation]
    taken = (drawn[:training], drawn[training:], order[:fifth])
    return Splits(*(reviews.iloc[np.sort(rows)].reset_index(drop=True) for rows in taken))


def example_config(name: str = "config.json") -> dict[str, Any]:
    """Return a training config of the example."""
    config: dict[str, Any] = json.loads((EXAMPLE / name).read_text())
    return config


def measure(probabilities: np.ndarray, rows: pd.DataFrame) -> tuple[float, float]:
    """Return AUROC, and log loss in nats, of the probabilities of class 1."""
    labels = rows[LABEL].to_numpy()
    right = np.where(labels == 1, probabilities, 1 - probabilities).clip(1e-15)
    auroc = binary_auroc(torch.tensor(probabilities), torch.tensor(labels))
    return float(auroc), float(-np.log(right).mean())
