#!/usr/bin/env python3
"""Effect of scaling on ``tabular``: AUROC from a few plain numbers, and the rate of a run.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --reviews reviews.parquet [--rows 1000000] [--repeat 5]

The script trains ``tabular`` on one and on three numbers of the reviews with the defaults of ``bsm train``. It measures
AUROC and log loss on the held-out fifth, for three seeds. Beside them stand the same config without scaling and with
the LayerNorm over the row, and the number ``Rating`` itself as a score.

Then it scores a million rows of ten features with artifacts that scale them and one that does not. They take turns, and
the time is that of the CPU, so that a machine that others use changes little; the best of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from reviews import LABEL, Splits, measure, split
from tabular import CONFIG, FEATURES, ID, write_table

from bsm_core import Predictor, Registry, train
from bsm_core.artifact import save_artifact

SETS = (["Rating"], ["Rating", "Age", "Positive Feedback Count"])
AS_BEFORE = {"scaling": "none", "feature_norm": "layer"}
SEEDS = (0, 1, 2)
KINDS: dict[str, dict[str, Any]] = {
    "standard": {"kind": "standard", "mean": 0.1, "std": 1.1},
    "robust": {"kind": "robust", "median": 0.1, "iqr": 1.3},
    "quantile": {"kind": "quantile", "quantiles": [i / 250 - 2 for i in range(1000)]},
}


def auroc(features: list[str], rows: Splits, **keys: Any) -> tuple[float, float]:
    """Train, and return AUROC and log loss of the held-out reviews."""
    config = {
        "model_class": "tabular",
        "tab_field_list": features,
        "label_name": LABEL,
        "hidden_common_dim": 32,
        **keys,
    }
    with tempfile.TemporaryDirectory() as place:
        folder = train(config | keys, rows.training, f"{place}/model", validation=rows.validation).folder
        scores = Predictor.from_artifact(folder).predict(rows.held_out)["prob_class_1"].to_numpy()
    return measure(scores, rows.held_out)


def learned(reviews: Path) -> None:
    """Print AUROC and log loss of each set of features."""
    rows = split(reviews, training=16_910, validation=1_879)
    print(f"{len(rows.training):,} reviews to train on, measured on {len(rows.held_out):,} others: AUROC, log loss")
    for features in SETS:
        print(", ".join(features))
        for what, keys in (("scaled (default)", {}), ("not scaled, lr 1e-3", {**AS_BEFORE, "lr": 1e-3})):
            found = [auroc(features, rows, seed=seed, **keys) for seed in SEEDS]
            print(f"  {what:22}", "  ".join("{:.4f}, {:.4f}".format(*each) for each in found), flush=True)
    ratings = pd.Series(rows.held_out["Rating"]) / 5
    print(f"Rating as the score      {measure(ratings.to_numpy(), rows.held_out)[0]:.4f}")


def write_artifact(folder: Path, scaling: dict[str, Any] | None) -> Path:
    """Write an artifact with random weights, whose features are all scaled in one way."""
    registry = Registry.discover()
    model = registry.load(registry.resolve("model_class", "tabular"), object).from_config(CONFIG)  # type: ignore[attr-defined]
    return save_artifact(
        folder,
        config=CONFIG,
        state_dict=model.state_dict(),
        risk_tables={},
        impute=dict.fromkeys(FEATURES, 0.0),
        feature_scaling=dict.fromkeys(FEATURES, scaling) if scaling else None,
    )


def rates(rows: int, repeat: int, kinds: Sequence[str]) -> None:
    """Print the rate of scoring with each kind of scaling, and its ratio to that without scaling."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = write_table(rows, folder / "rows.parquet")
        predictors = {
            kind: Predictor.from_artifact(write_artifact(folder / kind, KINDS.get(kind))) for kind in ("none", *kinds)
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in predictors}
        for _ in range(repeat):
            for kind, predictor in predictors.items():
                began = time.process_time()
                scored = sum(window.num_rows for window in predictor.score(table, id_field=ID))
                seconds[kind].append(time.process_time() - began)
                if scored != rows:
                    raise SystemExit(f"{scored:,} rows were scored")
    print(f"{rows:,} rows of ten features, read from Parquet and scored; CPU time, best of {repeat} in turns")
    for kind, taken in seconds.items():
        print(f"  {kind:10} {rows / min(taken):10,.0f} rows/s  {min(seconds['none']) / min(taken):5.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="AUROC and rate of tabular with scaled features.")
    parser.add_argument("--reviews", type=Path, help="without it, only the rates are measured")
    parser.add_argument("--rows", type=int, default=1_000_000, help="0: no rates")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="kinds of scaling to time")
    arguments = parser.parse_args()
    if arguments.reviews:
        learned(arguments.reviews)
    if arguments.rows:
        rates(arguments.rows, arguments.repeat, arguments.kinds)


if __name__ == "__main__":
    main()
