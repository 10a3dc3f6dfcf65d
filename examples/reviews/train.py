#!/usr/bin/env python3
"""Train the example artifact: is a clothing review a recommendation?

    python examples/reviews/train.py --reviews reviews.parquet

The data are the Women's E-Commerce Clothing Reviews (CC0). ``config.json`` is the training config. The script trains on
four fifths of the rows and prints the AUROC of the packed artifact on the other fifth, the test rows. Next to itself it
writes ``model.tar.gz``, and ``reviews.csv`` with 1,000 of the test rows. Seed and split are fixed, so the files
are the same in each run on one machine.
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
    """Return four fifths of the rows to train on, and one fifth to test on; the same rows in each run."""
    order = np.random.default_rng(SEED).permutation(len(reviews))
    fifth = len(reviews) // 5
    return reviews.iloc[np.sort(order[fifth:])], reviews.iloc[np.sort(order[:fifth])]


def main() -> None:
    """Train, pack and measure the artifact, and write the sample of rows."""
    parser = argparse.ArgumentParser(description="Train the example artifact.")
    parser.add_argument("--reviews", type=Path, required=True, help="reviews.parquet")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for model.tar.gz and reviews.csv")
    arguments = parser.parse_args()
    configure()

    reviews = pd.read_parquet(arguments.reviews)
    reviews.insert(0, ID, [f"{i:05d}" for i in range(len(reviews))])
    rows, test = split(reviews)
    archive = arguments.output / "model.tar.gz"
    with tempfile.TemporaryDirectory() as folder:
        trained = train(HERE / "config.json", rows, Path(folder) / "artifact")
        archive.unlink(missing_ok=True)
        pack(trained.folder, archive, safe_only=True)

    probabilities = Predictor.from_artifact(archive).predict(test)["prob_class_1"].to_numpy()
    auroc = binary_auroc(torch.tensor(probabilities), torch.tensor(test[LABEL].to_numpy()))
    print(f"AUROC on the {len(test):,} test reviews: {auroc:.4f}")
    print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB")

    sample = test.sample(1000, random_state=SEED).sort_index()
    sample[COLUMNS].to_csv(arguments.output / "reviews.csv", index=False)
    print(f"{arguments.output / 'reviews.csv'}: {len(sample):,} rows")


if __name__ == "__main__":
    main()
