from __future__ import annotations

import json
import logging
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.training import CONFIG, files, labelled_rows

from bsm_core import Predictor, train
from bsm_core.errors import DataError
from bsm_core.metrics.names import METRICS
from bsm_core.plugins.registry import default_registry
from bsm_core.training.config.training_config import TrainingConfig
from bsm_core.training.metrics import History
from bsm_core.training.optional.calibration import fit_temperature
from bsm_core.training.optional.folds import Fold, stratified, summary

SITE = Path(__file__).parents[3] / "toy_site"
FOLDED = {**CONFIG, "folds": 3, "max_epochs": 2}


@given(st.lists(st.integers(0, 3), min_size=20, max_size=120), st.integers(2, 4), st.integers(0, 9))
def test_folds_have_each_row_once_and_their_share_of_each_class(labels, folds, seed):
    labels = torch.tensor(labels)
    counts = labels.bincount()
    if any(0 < count < folds for count in counts.tolist()):
        with pytest.raises(DataError, match=f"fewer rows than the {folds} folds"):
            stratified(labels, folds, seed)
        return
    found = stratified(labels, folds, seed)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(labels)))
    for fold in found:
        assert abs(len(fold) - len(labels) / folds) < 1
        for index, count in enumerate(counts.tolist()):
            assert abs(int((labels[fold] == index).sum()) - count / folds) < 1
    again = stratified(labels, folds, seed)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def folds_of(sureness, rows=600):
    """Three folds of logits that are surer than the labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (rows, 2))
    labels = torch.from_numpy((rng.random(rows) < 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).astype(np.int64))
    return [Fold(np.arange(i, rows, 3), logits[i::3] * sureness, i + 1) for i in range(3)], labels


def test_the_summary_is_the_mean_and_the_deviation_of_the_folds(caplog):
    folds, labels = folds_of(1.0)
    with caplog.at_level(logging.INFO, "bsm"):
        found = summary(folds, labels, TrainingConfig(label_name="y"))
    assert [one["fold"] for one in found["each"]] == [one["best_epoch"] for one in found["each"]] == [1, 2, 3]
    for name in METRICS:
        values = [one[name] for one in found["each"]]
        assert found["mean"][name] == pytest.approx(statistics.fmean(values))
        assert found["std"][name] == pytest.approx(statistics.stdev(values))
    assert (
        f"3 folds: log loss {found['mean']['log_loss']:.4f} ± {found['std']['log_loss']:.4f}, AUROC 0." in caplog.text
    )


def test_a_calibrated_fold_is_measured_with_the_temperature_of_the_others():
    folds, labels = folds_of(5.0, rows=6000)
    plain, calibrated = (summary(folds, labels, TrainingConfig(label_name="y", calibrate=c)) for c in (False, True))
    assert calibrated["mean"]["ece"] < plain["mean"]["ece"] / 2
    others = [folds[1], folds[2]]
    rows = np.concatenate([fold.rows for fold in others])
    temperature = fit_temperature(np.concatenate([fold.logits for fold in others]), labels.numpy()[rows])
    scores = (torch.from_numpy(folds[0].logits) / temperature).log_softmax(-1)
    loss = -float(scores.gather(1, labels[folds[0].rows][:, None]).mean())
    assert calibrated["each"][0]["log_loss"] == pytest.approx(loss)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A job with folds that was not disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        default_registry.cache_clear()
        return train(FOLDED, labelled_rows(), tmp_path_factory.mktemp("folds") / "model")


@pytest.mark.usefixtures("toy_site")
def test_the_artifact_is_that_of_the_job_without_folds(made, tmp_path):
    plain = train({**FOLDED, "folds": None}, labelled_rows(), tmp_path / "plain")
    ours, theirs = files(made.folder), files(plain.folder)
    assert ours["model.safetensors"] == theirs["model.safetensors"]
    assert {name for name in ours if ours[name] != theirs[name]} <= {
        *("hyperparameters.json", "model_artifacts.pth", "training_metrics.json", "provenance.json"),
    }


@pytest.mark.usefixtures("toy_site")
def test_each_row_is_measured_in_one_fold(made):
    folds = json.loads((made.folder / "training_metrics.json").read_text())["folds"]
    assert folds == made.metrics["folds"]
    assert sum(one["rows"] for one in folds["each"]) == 40
    assert len(folds["each"]) == 3
    assert not list(made.folder.parent.glob(".*"))


@pytest.mark.parametrize("fold", [1, 2, 4])
@pytest.mark.usefixtures("toy_site")
def test_a_job_that_was_stopped_goes_on_in_its_fold(made, tmp_path, monkeypatch, caplog, fold):
    """The fourth training is that of the artifact."""
    original, starts = History.on_train_epoch_start, []

    def maybe(self, trainer, module):
        starts.append(trainer.current_epoch)
        if len(starts) == 2 * fold:
            raise KeyboardInterrupt
        original(self, trainer, module)

    output = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", maybe)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(FOLDED, labelled_rows(), output)
    caplog.clear()
    with caplog.at_level(logging.INFO, "bsm"):
        again = train(FOLDED, labelled_rows(), output)
    assert caplog.text.count("finished before") == fold - 1
    assert caplog.text.count("resuming from") == 1
    assert files(output) == files(made.folder)
    assert again.metrics == made.metrics


@pytest.mark.parametrize("damage", ["cut", "empty", "other rows"])
@pytest.mark.usefixtures("toy_site")
def test_a_fold_whose_file_is_damaged_is_trained_again(made, tmp_path, monkeypatch, caplog, damage):
    output = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr("bsm_core.training.make_artifact.fit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(FOLDED, labelled_rows(), output)
    stored = tmp_path / ".model.training/fold-2/fold.pt"
    content = stored.read_bytes()
    if damage == "other rows":
        torch.save({"logits": torch.zeros(2, 2), "epoch": 1}, stored)
    else:
        stored.write_bytes(content[:-50] if damage == "cut" else b"")
    with caplog.at_level(logging.INFO, "bsm"):
        train(FOLDED, labelled_rows(), output)
    assert caplog.text.count("finished before") == 2
    assert caplog.text.count(f"{stored} is damaged (") == 1
    assert files(output) == files(made.folder)


@pytest.mark.usefixtures("toy_site")
def test_with_folds_the_temperature_is_that_of_all_rows(tmp_path):
    rows = labelled_rows(160)
    noisy = rows.assign(label=["1" if i % 7 == 0 else label for i, label in enumerate(rows["label"])])
    made = train({**FOLDED, "calibrate": True, "validation_fraction": 0}, noisy, tmp_path / "model")
    found = made.metrics["calibration"]
    assert (found["rows"], found["count"]) == ("rows of the folds", 160)
    config = json.loads((made.folder / "hyperparameters.json").read_text())
    assert config["calibration_temperature"] == found["temperature"]
    assert Predictor.from_artifact(made.folder).predict(rows).shape == (160, 2)


@pytest.mark.usefixtures("toy_site")
def test_a_class_of_too_few_rows_is_an_error(tmp_path):
    rows = labelled_rows().assign(label=["1"] * 2 + ["0"] * 38)
    with pytest.raises(DataError, match="fewer rows than the 3 folds") as caught:
        train(FOLDED, rows, tmp_path / "model", validation=labelled_rows())
    assert caught.value.details == ("class 1: 2 row(s)",)


@pytest.mark.usefixtures("toy_site")
@pytest.mark.parametrize("labels", [["1"] * 2 + ["0"] * 38, ["1"] * 3 + ["0"] * 37])
def test_the_rows_of_all_folds_are_checked_before_anything_is_prepared(tmp_path, monkeypatch, labels):
    """Of three rows of a class, two remain without a fold: none of its rows may be missing in either part."""
    prepared = []
    monkeypatch.setattr("bsm_core.training.make_artifact.Prepared", lambda *_: prepared.append(1) or 1 / 0)
    rows = labelled_rows().assign(label=labels)
    with pytest.raises((DataError, ZeroDivisionError)):
        train({**FOLDED, "monitor": "auroc", "validation_fraction": 0.1}, rows, tmp_path / "model")
    assert len(prepared) == (labels.count("1") == 3)
