from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest
import torch
from support.training import CONFIG, ENCODING, files, labelled_rows, save_encoder

from bsm_core import Predictor, train
from bsm_core.artifact import Artifact
from bsm_core.errors import ConfigError
from bsm_core.training.metrics import History

pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("toy_site")


@pytest.fixture
def encoder(tmp_path):
    """A pretrained encoder of two layers."""
    return tmp_path / "encoder", save_encoder(tmp_path / "encoder", num_hidden_layers=2).state_dict()


def config(folder, **lora):
    return {**ENCODING, "text_encoder": str(folder), "max_epochs": 2, "lr": 0.02, "batch_size": 8, "lora": lora}


def test_adapters_change_linear_layers_by_their_rank_and_nothing_else_of_the_encoder(encoder, tmp_path, caplog):
    folder, before = encoder
    caplog.set_level(logging.INFO, "bsm")
    made = train(config(folder, r=2, alpha=8, target_modules=["query", "value"]), labelled_rows(), tmp_path / "model")
    after = Artifact.load(made.folder).weights
    assert {key.removeprefix("text_encoder.") for key in after if key.startswith("text_encoder.")} == before.keys()
    changed = {key for key in before if not torch.equal(before[key], after[f"text_encoder.{key}"])}
    layers = [f"encoder.layer.{i}.attention.self.{name}.weight" for i in (0, 1) for name in ("query", "value")]
    assert changed == set(layers)
    for key in layers:
        change = (after[f"text_encoder.{key}"] - before[key]).double()
        assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) == 2
    adapters, frozen = 4 * 2 * (8 + 8), sum(weight.numel() for weight in before.values())
    (told,) = (message for message in caplog.messages if message.startswith("lora: "))
    assert told.endswith(f"{adapters:,} of them in adapters of rank 2; {frozen:,} are frozen")


def test_all_linear_layers_and_the_head_are_trained(encoder, tmp_path):
    folder, before = encoder
    made = train(config(folder), labelled_rows(), tmp_path / "model")
    after = Artifact.load(made.folder).weights
    changed = {key for key in before if not torch.equal(before[key], after[f"text_encoder.{key}"])}
    assert changed == {key for key in before if key.startswith("encoder.") and key.endswith("dense.weight")} | {
        f"encoder.layer.{i}.attention.self.{name}.weight" for i in (0, 1) for name in ("query", "key", "value")
    }
    stored = json.loads((made.folder / "hyperparameters.json").read_text())["lora"]
    assert stored == {"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": "all-linear"}


def test_the_artifact_scores_as_training_said_and_needs_no_peft(encoder, tmp_path, monkeypatch):
    held = labelled_rows(24)[:20]
    made = train(config(encoder[0], dropout=0.1), labelled_rows(), tmp_path / "model", validation=held)
    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        monkeypatch.setitem(sys.modules, name, None)
    likely = Predictor.from_artifact(made.folder).predict(held).to_numpy()
    labels = held["label"].astype(int).to_numpy()
    loss = -np.log(likely[np.arange(20), labels]).mean()
    assert loss == pytest.approx(made.metrics["best"]["log_loss"], rel=1e-5)


def test_a_job_that_was_stopped_goes_on_with_its_adapters(encoder, tmp_path, monkeypatch):
    values = {**config(encoder[0], dropout=0.1), "gradient_checkpointing": True, "calibrate": True}
    whole = train(values, labelled_rows(), tmp_path / "whole")
    original = History.on_train_epoch_start

    def maybe(self, trainer, module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt
        original(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", maybe)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(values, labelled_rows(), tmp_path / "parts")
    parts = train(values, labelled_rows(), tmp_path / "parts")
    assert files(parts.folder) == files(whole.folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"rank": 8}}, "lora.rank"),
        ({"lora": {"target_modules": []}}, "lora.target_modules"),
        ({"text_encoder": ENCODING["text_encoder"]}, "lora: adapters need a pretrained encoder"),
        ({"reinit_layers": 1}, "reinit_layers: with lora, new weights of the encoder would not be"),
    ],
)
def test_what_cannot_be_is_an_error_before_the_rows_are_read(encoder, tmp_path, changes, said):
    with pytest.raises(ConfigError) as caught:
        train({**config(encoder[0]), **changes}, tmp_path / "not-there.csv", tmp_path / "model")
    assert said in "\n".join(caught.value.details)


def test_a_model_class_without_an_encoder_and_a_missing_package_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr("bsm_core.training.config.training_job.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="lora: the package peft is not installed"):
        train({**CONFIG, "lora": {}}, tmp_path / "not-there.csv", tmp_path / "model")


def test_a_layer_that_is_not_there_lists_those_that_are(encoder, tmp_path):
    with pytest.raises(ConfigError, match="no adapters can be added") as caught:
        train(config(encoder[0], target_modules=["q_proj"]), labelled_rows(), tmp_path / "model")
    assert caught.value.details == ("linear layers: dense, key, query, value",)
