from __future__ import annotations

import json

import pytest
import torch
from support.plugins import forget_modules, write_distribution
from support.training import BERT, CONFIG, ENCODING, labelled_rows

from bsm_core import Predictor, train
from bsm_core.artifact import Artifact
from bsm_core.artifact.check_rows import read_check_rows
from bsm_core.errors import (
    HookFailedError,
    ModelFailedError,
)
from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.provenance import require_same
from bsm_core.training.metrics import History
from bsm_core.training.result import write_trained as run

pytestmark = pytest.mark.usefixtures("toy_site")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_says_what_made_it(output):
    train(CONFIG, labelled_rows(), output)
    artifact = Artifact.load(output)
    require_same(artifact, Predictor.load(artifact))


def test_a_training_job_asks_no_guard(output, tmp_path, monkeypatch):
    code = "from bsm_core import hookimpl\n\n@hookimpl\ndef bsm_artifact_loaded():\n    raise ValueError('not today')\n"
    write_distribution(tmp_path / "site", "acme-vouch", {"acme_vouch": code}, {"guards": {"acme_vouch": "acme_vouch"}})
    monkeypatch.syspath_prepend(tmp_path / "site")
    default_registry.cache_clear()
    train(CONFIG, labelled_rows(), output)
    with pytest.raises(HookFailedError, match="not today"):
        Predictor.from_artifact(output)
    forget_modules(tmp_path / "site")
    default_registry.cache_clear()


@pytest.mark.parametrize("count", [0, 3])
def test_how_many_rows_the_artifact_keeps_is_the_configs_to_say(output, count):
    train({**CONFIG, "check_rows": count}, labelled_rows(), output)
    stored = read_check_rows(output)
    assert (0 if stored is None else len(stored.rows)) == count


def test_the_artifact_has_the_safe_files_their_twins_and_the_metrics(output):
    train(ENCODING, labelled_rows(), output)
    assert {
        *("hyperparameters.json", "model_artifacts.pth", "model.safetensors", "model.pth", "risk_table_map.json"),
        *("risk_table_map.pkl", "impute_dict.json", "impute_dict.pkl", "training_metrics.json", "self_check.json"),
        *("tokenizer", "text_encoder", "provenance.json", "training_distributions.json"),
        "explanation_background.json",
    } == set(names(output))


def test_its_config_says_what_was_given_and_chosen(output):
    train({**ENCODING, "text_encoder": dict(BERT), "odd": 1}, labelled_rows(), output)
    config = json.loads((output / "hyperparameters.json").read_text())
    tokenizer = json.loads((output / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    assert (config["odd"], config["seed"], config["monitor"]) == (1, 0, "log_loss")
    assert (config["tokenizer"], config["vocab_size"]) == ("tokenizer", len(tokenizer))
    assert config["multiclass_categories"] == [0, 1]
    assert "text_encoder" not in config
    assert json.loads((output / "text_encoder/config.json").read_text())["vocab_size"] == len(tokenizer)


def test_the_weights_saved_are_those_of_the_best_epoch(output, monkeypatch):
    seen = {}
    original = History.on_train_epoch_end

    def keep(self, trainer, module):
        original(self, trainer, module)
        seen[trainer.current_epoch] = {key: value.clone() for key, value in module.state_dict().items()}

    monkeypatch.setattr(History, "on_train_epoch_end", keep)
    monkeypatch.setattr("bsm_core.training.metrics.measure", lambda *rows: {"log_loss": [2.0, 1.0, 3.0][len(seen)]})
    metrics = train(CONFIG, labelled_rows(), output).metrics
    assert metrics["best"]["epoch"] == 2
    weights = Artifact.load(output).weights
    assert all(torch.equal(value, weights[key]) for key, value in seen[1].items())
    assert not torch.equal(seen[2]["head.weight"], weights["head.weight"])


def test_an_artifact_that_cannot_score_is_not_published(output, monkeypatch):
    def fail(*arguments):
        raise ModelFailedError("no good")

    monkeypatch.setattr(run, "make", fail)
    with pytest.raises(ModelFailedError):
        train(CONFIG, labelled_rows(), output)
    assert names(output.parent) == [".model.training"]


def test_a_report_that_cannot_be_drawn_does_not_cost_the_artifact(output, monkeypatch, caplog):
    monkeypatch.setattr("bsm_core.training.validation_report.draw", lambda *_, **__: 1 / 0)
    train(CONFIG, labelled_rows(), output)
    assert names(output.parent) == ["model"]
    assert "the report could not be drawn, please report this; the artifact is complete" in caplog.text
