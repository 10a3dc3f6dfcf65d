from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support.training import CONFIG, labelled_rows

from bsm_core import Predictor, train
from bsm_core.artifact.check_rows import read_check_rows
from bsm_core.errors import (
    ConfigError,
    DataError,
)
from bsm_core.metrics.names import METRICS
from bsm_core.scoring.self_check import check

pytestmark = pytest.mark.usefixtures("toy_site")


def test_the_metrics_are_written_and_given(output):
    trained = train({**CONFIG, "early_stopping_patience": 5}, labelled_rows(), output)
    written = json.loads((output / "training_metrics.json").read_text())
    assert written == trained.metrics
    assert written["rows"] == {"training": 30, "validation": 10}
    assert written["classes"] == [0, 1]
    assert [epoch["epoch"] for epoch in written["epochs"]] == [1, 2, 3]
    assert written["best"] == min(written["epochs"], key=lambda epoch: epoch["log_loss"])
    assert written["best"].keys() == {"epoch", "train_loss", *METRICS}
    assert len(trained.seconds) == 3


def test_rows_that_were_left_out_are_counted_in_the_metrics(output):
    rows = labelled_rows()
    rows.loc[:3, "label"] = ""
    metrics = train({**CONFIG, "max_epochs": 1, "on_missing_label": "skip"}, rows, output).metrics
    assert metrics["rows"] == {"training": 27, "validation": 9, "without_label": 4}
    held = labelled_rows(9)
    held.loc[:1, "label"] = ""
    shutil.rmtree(output)
    options = {**CONFIG, "max_epochs": 1, "on_missing_label": "skip"}
    metrics = train(options, rows, output, validation=held).metrics
    assert metrics["rows"] == {"training": 36, "validation": 7, "without_label": 4, "validation_without_label": 2}


def test_the_metrics_are_those_of_the_artifact_on_the_validation_part(output):
    held = labelled_rows(24)[:20]
    best = train(CONFIG, labelled_rows(), output, validation=held).metrics["best"]
    likely = Predictor.from_artifact(output).predict(held).to_numpy()
    labels = held["label"].astype(int).to_numpy()
    assert best["log_loss"] == pytest.approx(-np.log(likely[np.arange(20), labels]).mean(), rel=1e-5)
    assert best["accuracy"] == pytest.approx((likely.argmax(1) == labels).mean())


def test_a_class_that_is_not_measured_on_has_no_auroc(output):
    held = labelled_rows().query("label == '1'")
    trained = train(CONFIG, labelled_rows(), output, validation=held)
    assert [epoch["auroc"] for epoch in trained.metrics["epochs"]] == [None] * 3
    assert '"auroc": null' in (output / "training_metrics.json").read_text()
    with pytest.raises(DataError, match="AUROC cannot be computed to choose the best epoch") as caught:
        train({**CONFIG, "monitor": "auroc"}, labelled_rows(), output.with_name("other"), validation=held)
    assert caught.value.where == "config.monitor"


def test_a_calibrated_artifact_has_scores_of_its_temperature_and_the_same_weights(output, tmp_path):
    rows = labelled_rows(160)
    noisy = rows.assign(label=["1" if i % 7 == 0 else label for i, label in enumerate(rows["label"])])
    plain = train(CONFIG, noisy, tmp_path / "plain")
    trained = train({**CONFIG, "calibrate": True}, noisy, output)
    found = trained.metrics["calibration"]
    assert json.loads((output / "training_metrics.json").read_text())["calibration"] == found
    assert (found["rows"], found["count"]) == ("validation rows", 40)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    assert found["before"]["log_loss"] == pytest.approx(plain.metrics["best"]["log_loss"], rel=1e-6)
    assert (
        json.loads((output / "hyperparameters.json").read_text())["calibration_temperature"]
        == found["temperature"]
        != 1
    )
    assert (output / "model.safetensors").read_bytes() == (plain.folder / "model.safetensors").read_bytes()
    before, after = (Predictor.from_artifact(folder).predict(rows)["prob_class_1"] for folder in (plain.folder, output))
    odds = np.log(before / (1 - before)), np.log(after / (1 - after))
    assert np.allclose(odds[0], odds[1] * found["temperature"], atol=1e-5)
    assert check(Predictor.from_artifact(output), read_check_rows(output)) == 0
    best = trained.metrics["best"]
    assert best["log_loss"] == pytest.approx(found["after"]["log_loss"])
    assert best["auroc"] == pytest.approx(plain.metrics["best"]["auroc"])
    assert trained.metrics["epochs"] == plain.metrics["epochs"]


def test_without_validation_rows_there_is_nothing_to_calibrate_on(output, tmp_path):
    with pytest.raises(ConfigError, match="fitted on validation rows, and there are none") as caught:
        train({**CONFIG, "calibrate": True, "validation_fraction": 0}, tmp_path / "not-there.csv", output)
    assert caught.value.where == "config.calibrate"
    train({**CONFIG, "calibrate": True, "validation_fraction": 0}, labelled_rows(), output, validation=labelled_rows())


def test_that_no_row_is_left_to_calibrate_on_is_told_before_the_training(output, monkeypatch):
    monkeypatch.setattr("bsm_core.training.make_artifact.fit", None)
    with pytest.raises(ConfigError, match="fitted on validation rows, and there are none"):
        train({**CONFIG, "calibrate": True, "multiclass_categories": ["0", "1"]}, labelled_rows(1), output)


def test_a_temperature_that_is_given_and_fitted_is_a_contradiction(output):
    with pytest.raises(ConfigError, match="calibrate fits the temperature; remove one"):
        train({**CONFIG, "calibrate": True, "calibration_temperature": 2.0}, labelled_rows(), output)
