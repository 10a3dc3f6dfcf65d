#!/usr/bin/env python3
"""Metrics of scores with and without ``calibrate``, on reviews that neither train the model nor fit its temperature.

    OMP_NUM_THREADS=1 python benchmarks/calibration.py --reviews reviews.parquet [--seeds 3]

The temperature is fitted on the validation rows. The script prints the metrics of the held-out fifth without and with
it, for a model that is trained for long and chosen by its AUROC, and for one that is chosen by its log loss.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from reviews import LABEL, Splits, example_config, split

from bsm_core import Predictor, train
from bsm_core.metrics.measure import measure

SHOWN = ("ece", "log_loss", "brier", "auroc")
CNN = {
    "model_class": "text_cnn",
    "num_channels": [64, 64],
    "kernel_size": [3, 5],
    "hidden_common_dim": 64,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "max_epochs": 10,
    "early_stopping_patience": 10,
    "calibrate": True,
}
"""Config keys that differ from those of the example."""
MODELS: dict[str, dict[str, Any]] = {
    "ten epochs, the best AUROC": {**CNN, "monitor": "auroc"},
    "the best log loss": {**CNN, "monitor": "log_loss"},
}


def row(predictor: Predictor, splits: Splits) -> list[float]:
    """Return the metrics of the held-out rows."""
    probabilities = predictor.predict(splits.held_out).to_numpy()
    labels = splits.held_out[LABEL].to_numpy().astype(np.intp)
    found = measure(probabilities, labels, ["0", "1"], resamples=0, seed=0).metrics
    return [found[name].value or 0.0 for name in SHOWN]


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=Path, required=True, help="Parquet file of the reviews")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    splits = split(arguments.reviews, training=4000, validation=2000)
    print(f"{len(splits.validation):,} validation rows, {len(splits.held_out):,} held-out rows")
    base = {key: value for key, value in example_config().items() if key not in ("text_encoder", "warmup_steps")}
    for name, keys in MODELS.items():
        print(f"\n{name}\nseed  temperature  " + "  ".join(f"{metric:>18}" for metric in SHOWN))
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                config = {**base, **keys, "seed": seed}
                made = train(config, splits.training, Path(folder) / "model", validation=splits.validation)
                predictor = Predictor.from_artifact(made.folder)
            after = row(predictor, splits)
            predictor.model.config = predictor.model.config.model_copy(update={"calibration_temperature": 1.0})
            before = row(predictor, splits)
            pairs = (f"{a:.4f} -> {b:.4f}" for a, b in zip(before, after, strict=True))
            temperature = made.metrics["calibration"]["temperature"]
            print(f"{seed:>4}  {temperature:>11.3f}  " + "  ".join(f"{pair:>18}" for pair in pairs), flush=True)


if __name__ == "__main__":
    main()
