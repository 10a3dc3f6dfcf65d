"""Scaled features from ``bsm train`` to a run, its report and the functions of the contract's script."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bsm_core import Predictor, cli
from bsm_core.artifact import Artifact, describe, pack
from bsm_core.errors import CorruptArtifactError, WeightsMismatchError
from bsm_core.training import train

SCRIPTS = Path(__file__).parents[2] / "scripts"
CONFIG = {
    "model_class": "tabular",
    "tab_field_list": ["rating", "paid", "visits", "rate", "shop", "city"],
    "cat_field_list": ["shop"],
    "label_name": "label",
    "hidden_common_dim": 8,
    "batch_size": 16,
    "max_epochs": 2,
    "scaling": {"paid": "quantile", "visits": "robust", "rate": "none"},
    "missing_indicators": True,
    "one_hot": ["city"],
}
INPUTS = [
    *("rating", "paid", "paid is missing", "visits", "rate", "shop", "city = Bonn", "city = Rome", "city = nan"),
]


def table(rows=240):
    random = np.random.default_rng(0)
    rating = random.integers(1, 6, rows)
    paid = random.lognormal(5, 1, rows)
    return pd.DataFrame(
        {
            "id": [f"{i:04d}" for i in range(rows)],
            "rating": rating,
            "paid": np.where(random.random(rows) < 0.2, np.nan, paid),
            "visits": random.poisson(3, rows),
            "rate": random.random(rows),
            "shop": random.choice(["web", "app"], rows),
            "city": random.choice(["Bonn", "Rome", None], rows),
            "label": (rating > 2).astype(int),
        }
    )


@pytest.fixture(scope="module")
def rows():
    return table()


@pytest.fixture(scope="module")
def made(rows, tmp_path_factory):
    return train(CONFIG, rows, tmp_path_factory.mktemp("scaled") / "model").folder


@pytest.fixture(scope="module")
def files(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows.drop(columns="label").to_csv(folder / "rows.csv", index=False)
    return folder


def test_the_artifact_says_how_its_features_are_scaled(made):
    artifact = Artifact.load(made)
    assert list(artifact.feature_names) == INPUTS
    assert artifact.model_config(["feature_count"])["feature_count"] == len(INPUTS)
    kinds = {name: scaling.kind for name, scaling in artifact.feature_scaling.features.items()}
    assert kinds == {
        "rating": "standard",
        "paid": "quantile",
        "visits": "robust",
        "shop": "standard",
        "city": "one_hot",
    }
    config = artifact.raw_config
    assert (config["scaling"], config["feature_norm"], config["lr"]) == (CONFIG["scaling"], "none", 1e-3)
    description = describe(made)
    assert description.problems == []
    text = description.to_text()
    assert "paid: number, missing becomes" in text
    assert "scaling: quantile, an input says what is missing" in text
    assert "city: an input for each of 3 categories" in text
    assert [name for item in description.features for name in item.get("inputs", [item["name"]])] == INPUTS


def test_the_same_seed_writes_the_same_files(made, rows, tmp_path):
    again = train(CONFIG, rows, tmp_path / "model").folder
    for path in made.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_run_scores_as_the_predictor_does_and_an_archive_keeps_the_scaling(made, rows, files, tmp_path):
    expected = Predictor.from_artifact(made).predict(rows)
    pack(made, tmp_path / "model.tar.gz", safe_only=True)
    arguments = ["--id-field", "id", "--model-dir", str(tmp_path / "model.tar.gz"), "--data-dir", str(files)]
    page = str(tmp_path / "report.html")
    assert not cli.main(["run", *arguments, "--output-dir", str(tmp_path / "out"), "--report", page])
    found = pd.read_csv(tmp_path / "out" / "inference_predictions.csv", dtype={"id": str})
    assert np.allclose(found[["prob_class_0", "prob_class_1"]], expected, atol=1e-6)


def test_statistics_are_in_the_units_of_the_table(made, rows, files, tmp_path):
    training = Artifact.load(made).training_distributions
    assert training.numbers["rating"].values == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert training.categories["city"].counts.keys() == {"Bonn", "Rome"}
    arguments = ["--id-field", "id", "--model-dir", str(made), "--data-dir", str(files), "--output-dir", str(tmp_path)]
    assert not cli.main(["run", *arguments, "--run-record"])
    record = json.loads((tmp_path / "run.json").read_text())["statistics"]
    counted = record["numbers"]
    values = rows["rating"].value_counts().sort_index()
    assert counted["rating"]["counts"] == [*values.tolist(), 0]
    assert sum(counted["paid"]["counts"]) == rows["paid"].notna().sum()


def test_the_functions_of_the_script_score_the_same(made, rows, files, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import pytorch_model_inference as script

    model, config, _, processors = script.load_model_artifacts(made)
    dataset = script.create_bsm_dataset(config, files, "rows.csv")
    script.apply_preprocessing_artifacts(dataset, processors, config)
    found = script.generate_predictions(model, script.create_dataloader(dataset, config), "cpu", "cpu")
    assert np.allclose(found, Predictor.from_artifact(made).predict(rows), atol=1e-6)


@pytest.fixture
def changed(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "changed"))


def test_a_scaling_that_is_lost_is_missed(changed):
    (changed / "feature_scaling.json").unlink()
    with pytest.raises(CorruptArtifactError, match="is missing, and training scaled features"):
        Predictor.from_artifact(changed)


def test_the_config_of_an_artifact_that_was_trained_elsewhere_says_nothing_of_its_scaling(changed):
    (changed / "feature_scaling.json").unlink()
    (changed / "training_metrics.json").unlink()
    with pytest.raises(WeightsMismatchError, match="tab_subnetwork"):
        Predictor.from_artifact(changed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda features: features.update(height=features["rating"]), "'height' is not in tab_field_list"),
        (lambda features: features["rating"].update(std=0), "features.rating.standard.std"),
        (lambda features: features["shop"].update(missing_indicator=True), "'shop' has a missing_indicator"),
    ],
)
def test_a_scaling_of_another_model_is_refused(changed, change, says):
    path = changed / "feature_scaling.json"
    content = json.loads(path.read_text())
    change(content["features"])
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptArtifactError) as caught:
        Predictor.from_artifact(changed)
    assert says in str(caught.value)
    assert any(says in problem for problem in describe(changed).problems)


def test_the_original_scripts_scale_nothing(changed, tmp_path):
    with pytest.raises(CorruptArtifactError, match="contradicts compat=original"):
        Predictor.from_artifact(pack(changed, tmp_path / "original", compat="original"))
