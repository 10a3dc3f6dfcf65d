#!/usr/bin/env python3
"""Train the example artifact: is a clothing review a recommendation?

    python examples/reviews/train.py --reviews reviews.parquet

The data are the Women's E-Commerce Clothing Reviews (CC0). ``config.json`` says what is trained, on four fifths of the
rows; the script prints the AUROC on the held-out fifth, scored by the packed artifact itself, and writes
``model.tar.gz`` and 1,000 held-out rows as ``reviews.csv`` beside itself. A fixed seed and a fixed split make it
repeatable.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.classification import binary_auroc

from bsm_core import Predictor, train
from bsm_core.artifact import pack
from bsm_core.runtime.log import configure

HERE = Path(__file__).parent
SEED = 0
ID, LABEL = "review_id", "Recommended IND"
COLUMNS = [
    ID,
    *("Age", "Positive Feedback Count", "Division Name", "Department Name", "Class Name"),
    *("Title", "Review Text", "Rating", LABEL),
]


def split(reviews: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four fifths to train on, one to hold out; the same rows every time."""
    order = np.random.default_rng(SEED).permutation(len(reviews))
    fifth = len(reviews) // 5
    return reviews.iloc[np.sort(order[fifth:])], reviews.iloc[np.sort(order[:fifth])]


def main() -> None:
    """Train, pack, measure, and write the sample."""
    parser = argparse.ArgumentParser(description="Train the example artifact.")
    parser.add_argument("--reviews", type=Path, required=True, help="reviews.parquet")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for model.tar.gz and reviews.csv")
    arguments = parser.parse_args()
    configure()

    reviews = pd.read_parquet(arguments.reviews)
    reviews.insert(0, ID, [f"{i:05d}" for i in range(len(reviews))])
    rows, held_out = split(reviews)
    archive = arguments.output / "model.tar.gz"
    with tempfile.TemporaryDirectory() as folder:
        trained = train(HERE / "config.json", rows, Path(folder) / "artifact")
        archive.unlink(missing_ok=True)
        pack(trained.folder, archive)

    probabilities = Predictor.from_artifact(archive).predict(held_out)["prob_class_1"].to_numpy()
    auroc = binary_auroc(torch.tensor(probabilities), torch.tensor(held_out[LABEL].to_numpy()))
    print(f"AUROC on the {len(held_out):,} held-out reviews: {auroc:.4f}")
    print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB")

    sample = held_out.sample(1000, random_state=SEED).sort_index()
    sample[COLUMNS].to_csv(arguments.output / "reviews.csv", index=False)
    print(f"{arguments.output / 'reviews.csv'}: {len(sample):,} rows")


if __name__ == "__main__":
    main()
