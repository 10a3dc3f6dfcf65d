"""The example artifact, used as its readers use it: through the command line, in processes of its own."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.processes import python

from bsm_core import Predictor
from bsm_core.artifact import unpacked
from bsm_core.errors import ProvenanceError
from bsm_core.scoring.provenance import require_same

EXAMPLE = Path(__file__).parents[2] / "examples/reviews"


def run(*arguments):
    done = python("-m", *arguments)
    assert done.returncode == 0, done.stderr
    return done


def test_a_thousand_reviews_from_file_to_file(tmp_path):
    paths = ["--model-dir", EXAMPLE / "model.tar.gz", "--data-dir", EXAMPLE / "reviews.csv", "--output-dir", tmp_path]
    done = run("bsm_core.run", "--job_type", "inference", "--id-field", "review_id", *paths)
    assert "1,000 rows" in done.stderr
    assert "Traceback" not in done.stderr
    assert "UserWarning" not in done.stderr
    assert done.stdout == ""
    with (EXAMPLE / "reviews.csv").open(newline="") as given, (tmp_path / "inference_predictions.csv").open() as made:
        ids = [row["review_id"] for row in csv.DictReader(given)]
        rows = list(csv.DictReader(made))
    assert [row["review_id"] for row in rows] == ids
    assert len(ids) == 1000
    assert all(float(row["prob_class_0"]) == 1 - float(row["prob_class_1"]) for row in rows)
    # 82 % of the reviewers recommend the item; a model that learned nothing would not tell them apart
    likely = [float(row["prob_class_1"]) for row in rows]
    assert 0.7 < sum(likely) / len(likely) < 0.95
    assert min(likely) < 0.1


def test_processes_and_loader_workers_that_are_really_spawned(tmp_path):
    """Start an interpreter, which spawns its processes itself: other tests fork them from a server, to save time."""
    command = ["bsm_core.run", "--job_type", "inference", "--id-field", "review_id", "--window-rows", "300"]
    places = ["--model-dir", EXAMPLE / "model.tar.gz", "--data-dir", EXAMPLE / "reviews.csv", "--output-dir"]
    run(*command, *places, tmp_path / "one")
    several = [*command, *places, tmp_path / "several", "--devices", "2", "--num-workers", "1"]
    done = subprocess.run([sys.executable, "-m", *map(str, several)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [tmp_path / name / "inference_predictions.csv" for name in ("one", "several")]
    one, several = (list(csv.reader(file.open(newline=""))) for file in files)
    assert [row[0] for row in several] == [row[0] for row in one]
    for expected, row in zip(one[1:], several[1:], strict=True):
        assert list(map(float, row[1:])) == pytest.approx(list(map(float, expected[1:])), abs=2e-6)


def test_the_record_of_the_artifact_is_that_of_this_code():
    """Whoever tries --strict gets differences of libraries at most."""
    with unpacked(EXAMPLE / "model.tar.gz") as folder:
        predictor = Predictor.open(folder)
        assert predictor.artifact.provenance is not None
        try:
            require_same(predictor.artifact, predictor)
            differences = []
        except ProvenanceError as error:
            differences = [line for line in error.details if not line.startswith("library")]
    assert differences == [], "pack it again: bsm pack examples/reviews/model.tar.gz NEW.tar.gz"


def test_the_artifact_is_what_its_page_says():
    made = json.loads(run("bsm_core.cli", "inspect", "--json", EXAMPLE / "model.tar.gz").stdout)
    assert made["problems"] == []
    assert (EXAMPLE / "model.tar.gz").stat().st_size < 5_000_000
    with tarfile.open(EXAMPLE / "model.tar.gz") as archive:
        assert {"model.safetensors", "tokenizer/tokenizer.json", "text_encoder/config.json"} <= set(archive.getnames())


def test_reasons_count_from_the_mean_row_of_training_and_add_up(tmp_path):
    rows = pd.read_csv(EXAMPLE / "reviews.csv").head(3)
    predictor = Predictor.from_artifact(EXAMPLE / "model.tar.gz")
    reasons = predictor.explain(rows, tokens=False)
    by_row = reasons.groupby("row")
    odds = by_row.contribution.sum() + by_row.baseline.first()
    probabilities = predictor.predict(rows)["prob_class_1"]
    assert (np.log(probabilities / (1 - probabilities)) - odds).abs().max() < 1e-5
    with unpacked(EXAMPLE / "model.tar.gz") as folder:
        copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "explanation_background.json").unlink()
    without = Predictor.from_artifact(copy).explain(rows, tokens=False)
    assert abs(without.baseline[0] - reasons.baseline[0]) > 0.01


def test_words_stand_where_they_say():
    predictor = Predictor.from_artifact(EXAMPLE / "model.tar.gz")
    row = {**dict.fromkeys(predictor.feature_names_in_), "Review Text": "<b>Great</b> fit &amp; so 😀 Pretty"}
    reasons = predictor.explain([row])
    words = reasons[reasons.token.notna()]
    assert words.token.tolist() == ["Great", "fit", "&amp;", "so", "Pretty"]
    places = zip(words.start.astype(int), words.end.astype(int), strict=True)
    assert [row["Review Text"][start:end] for start, end in places] == words.token.tolist()
