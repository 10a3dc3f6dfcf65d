"""Classifiers of transformers, imported: their scores are those of transformers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from support.classifiers import FAMILIES, MORE_FAMILIES, WORDS, save_classifier, scores_of_transformers

import bsm_core
from bsm_core import cli
from bsm_core.artifact import Artifact
from bsm_core.runtime.precision import TOLERANCES, Precision
from bsm_plugins_models.encoders.sequence_classifier import CLASSIFIERS

RANDOM = np.random.default_rng(0)
TEXTS = [" ".join(RANDOM.choice(WORDS, size)) for size in (1, 2, 30, 600, 1_500)] + ["", " \t", "Ünknown ✓ word."]
"""From one token to more than 512, and none."""
ROWS = pd.DataFrame({"id": [*map(str, range(len(TEXTS)))], "review": TEXTS})


@pytest.fixture(scope="module", params=FAMILIES)
def imported(request, tmp_path_factory):
    """A classifier with three classes, and its artifact."""
    folder = tmp_path_factory.mktemp(request.param)
    source = save_classifier(folder / "classifier", request.param, labels=("bad", "fine", "good"))
    return source, bsm_core.import_model(source, folder / "artifact", text_column="review")


def test_scores_are_those_of_transformers(imported):
    source, artifact = imported
    predictor = bsm_core.Predictor.from_artifact(artifact)
    assert [*predictor.classes_] == ["bad", "fine", "good"]
    want = scores_of_transformers(source, TEXTS, 512).numpy()
    assert want[:, 0].std() > 0.01  # texts are told apart
    assert np.abs(predictor.predict_proba(ROWS) - want).max() < 1e-5
    alone = np.concatenate([predictor.predict_proba(ROWS[i : i + 1]) for i in (1, 4, 5)])
    assert np.abs(alone - want[[1, 4, 5]]).max() < 1e-5


@pytest.mark.parametrize("family", MORE_FAMILIES)
def test_every_family_scores_each_text_as_transformers_scores_it_alone(family, tmp_path):
    source = save_classifier(tmp_path / "classifier", family, labels=("bad", "fine", "good"))
    artifact = bsm_core.import_model(source, tmp_path / "artifact", text_column="review", max_sen_len=60)
    texts = ["good dress", " ".join(WORDS * 5), "bad", "", "hate it", "love the small size " * 9]
    want = scores_of_transformers(source, texts, 60, batch_size=1).numpy()
    predictor = bsm_core.Predictor.from_artifact(artifact)
    assert np.abs(predictor.predict_proba({"review": texts}) - want).max() < 1e-5
    assert np.abs(predictor.predict_proba({"review": texts[2:3]}) - want[2:3]).max() < 1e-5
    assert np.abs(predictor.predict_proba({"review": texts}) - want).max() < 1e-5  # whatever came before
    assert want[:, 0].std() > 1e-3  # far more than may differ


def test_every_model_type_is_tested():
    assert {*FAMILIES, *MORE_FAMILIES} == {*CLASSIFIERS}


def test_bf16_is_within_its_tolerance(imported):
    source, artifact = imported
    short = [text for text in TEXTS if len(text) < 200]
    predictor = bsm_core.Predictor.from_artifact(artifact, precision="bf16")
    got = predictor.predict_proba(pd.DataFrame({"review": short}))
    assert np.abs(got - scores_of_transformers(source, short, 512).numpy()).max() < TOLERANCES[Precision.BF16]


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert"])
def test_from_a_folder_to_predictions_in_two_commands(family, tmp_path, capsys):
    source = save_classifier(tmp_path / "classifier", family)
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    artifact, out = tmp_path / "artifact", tmp_path / "out"
    data = ["--data", str(tmp_path / "rows.csv")]
    assert (
        cli.main(["import", str(source), str(artifact), "--text-column", "review", "--max-sen-len", "40", *data]) == 0
    )
    assert capsys.readouterr().out == f"{artifact}\n"
    arguments = ["--model-dir", artifact, "--data-dir", tmp_path / "rows.csv", "--id-field", "id", "--output-dir", out]
    assert cli.main(["run", *map(str, arguments)]) == 0
    got = pd.read_csv(out / "inference_predictions.csv")
    want = scores_of_transformers(source, TEXTS, 40).numpy()
    assert np.abs(got[["prob_class_0", "prob_class_1"]].to_numpy() - want).max() < 1e-5
    capsys.readouterr()
    assert cli.main(["inspect", str(artifact), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["problems"], shown["self_check"]["rows"]) == ([], 8)
    assert shown["provenance"]["components"][0]["name"] == "transformers_classifier"


def test_logits_of_several_chunks_are_averaged(tmp_path):
    source = save_classifier(tmp_path / "classifier", "distilbert")
    artifact = bsm_core.import_model(source, tmp_path / "artifact", text_column="review", max_sen_len=8)
    steps = {"text_processing_steps": ["dialogue_splitter", "dialogue_chunker", "tokenizer"]}
    content = torch.load(artifact / "model_artifacts.pth", weights_only=True)
    torch.save({**content, "config": content["config"] | steps}, artifact / "model_artifacts.pth")
    turns = ["good dress fits", "bad colour it was not"]  # too long for one chunk
    rows = {"review": ["".join(f"[bom]{turn}[eom]" for turn in turns)]}
    got = bsm_core.Predictor.from_artifact(artifact).predict_proba(rows)
    logits = scores_of_transformers(source, turns, 8).log()
    assert np.abs(got - logits.mean(0, keepdim=True).softmax(1).numpy()).max() < 1e-5
    assert (logits[0] - logits[1]).abs().max() > 0.1


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert", "roberta"])
def test_training_starts_from_the_encoder_of_a_classifier(family, tmp_path):
    source = save_classifier(tmp_path / "classifier", family)
    config = {
        "model_class": "transformers_classifier",
        "text_name": "review",
        "text_processing_steps": ["tokenizer"],
        "label_name": "label",
        "max_sen_len": 32,
        "max_epochs": 1,
        "lr": 1e-9,
        **dict.fromkeys(("text_encoder", "tokenizer"), str(source)),
    }
    rows = {"review": ["good dress fits", "bad poor return"] * 6, "label": [0, 1] * 6}
    trained = Artifact.load(bsm_core.train(config, rows, tmp_path / "trained").folder).weights
    before = safetensors.torch.load_file(source / "model.safetensors")
    same = {n for n, value in before.items() if torch.allclose(trained[f"classifier.model.{n}"], value, atol=1e-5)}
    heads = ("classifier.", "head.", "pooler.")
    assert same == {name for name in before if not name.startswith(heads)}
