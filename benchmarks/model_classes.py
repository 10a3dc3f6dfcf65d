#!/usr/bin/env python3
"""Table of docs/model-classes.md: every model class, trained on the same reviews with the same encoder.

    OMP_NUM_THREADS=1 python benchmarks/model_classes.py --reviews reviews.parquet [--classes bert lstm ...]

Each class is trained with three seeds, for at most three epochs, on 3,600 reviews. The best epoch is chosen on 400
other reviews, and measured on the held-out fifth. The table has the mean and the standard deviation of AUROC and log
loss over the seeds, and the seconds of the fastest epoch on one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from reviews import Splits, example_config, measure, split

from bsm_core import Predictor, train

SEEDS = (0, 1, 2)
TEXT, TABULAR = ("bert", "lstm", "text_cnn"), ("tabular",)
BIMODAL = ("bimodal_cnn", "bimodal_bert", "bimodal_gate_fusion", "bimodal_cross_attn", "bimodal_moe")
TRIMODAL = ("trimodal_bert", "trimodal_gate_fusion", "trimodal_cross_attn")


def config_of(name: str) -> dict[str, Any]:
    """Return the example's config for a model class, without keys of text or features that the class does not read."""
    config = example_config("two-fields.json" if name in TRIMODAL else "config.json") | {"model_class": name}
    if name in TEXT:
        config["tab_field_list"] = config["cat_field_list"] = []
    if name in TABULAR:
        del config["text_name"]
    return config


def measured(name: str, rows: Splits, seed: int) -> dict[str, float]:
    """Train once, and score the held-out rows with the artifact."""
    with tempfile.TemporaryDirectory() as folder:
        trained = train(config_of(name) | {"seed": seed}, rows.training, f"{folder}/model", validation=rows.validation)
        predictor = Predictor.from_artifact(trained.folder)
    scores = predictor.predict(rows.held_out)["prob_class_1"].to_numpy()
    auroc, log_loss = measure(scores, rows.held_out)
    parameters = sum(p.numel() for p in predictor.model.parameters())
    return {"auroc": auroc, "log_loss": log_loss, "seconds": min(trained.seconds), "parameters": parameters}


def main() -> None:
    """Print a line for each class."""
    parser = argparse.ArgumentParser(description="Every model class on the reviews.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=[*TABULAR, *TEXT, *BIMODAL, *TRIMODAL])
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    arguments = parser.parse_args()
    rows = split(arguments.reviews, training=3600, validation=400)
    kept: dict[str, list[dict[str, float]]] = {}
    print("| class | AUROC | log loss | s/epoch | parameters |\n|---|---|---|---|---|")
    for name in arguments.classes:
        kept[name] = [measured(name, rows, seed) for seed in SEEDS]
        values = {key: np.array([found[key] for found in kept[name]]) for key in kept[name][0]}
        auroc, log_loss = (f"{values[key].mean():.4f} ± {values[key].std(ddof=1):.4f}" for key in ("auroc", "log_loss"))
        seconds, parameters = values["seconds"].min(), int(values["parameters"][0])
        print(f"| `{name}` | {auroc} | {log_loss} | {seconds:.1f} | {parameters:,} |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
