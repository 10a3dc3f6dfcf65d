"""From a table and a config to an artifact and to predictions: ``bsm train``, ``bsm inspect``, ``bsm run``."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from transformers import BertConfig, BertModel

from bsm_core import Predictor, Registry, cli
from bsm_core.training import train
from bsm_core.training.wordpiece import fit_wordpiece

REVIEWS = Path(__file__).parents[2] / "examples/reviews/reviews.csv"
STEPS = ["html_normalizer", "emoji_remover", "text_normalizer", "dialogue_chunker", "tokenizer"]
ENCODER = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
TINY = {
    "label_name": "Recommended IND",
    "max_sen_len": 24,
    "lr": 1e-3,
    "max_epochs": 2,
    "baselines": False,
}
HIDDEN = {"hidden_common_dim": 8}
BERT = {**HIDDEN, "text_encoder": ENCODER}
EMBEDDING = {**HIDDEN, "embed_size": 8}
CNN = {**EMBEDDING, "num_channels": [4, 4], "kernel_size": [2, 3]}
TEXTS = {"max_total_chunks": 2, "chunk_trancate": True, "vocab_size": 300}
ONE_TEXT = {**TEXTS, "text_name": "Review Text", "text_processing_steps": STEPS}
TWO_TEXTS = {
    **TEXTS,
    "primary_text_name": "Title",
    "primary_text_processing_steps": STEPS,
    "secondary_text_name": "Review Text",
    "secondary_text_processing_steps": STEPS,
}
FEATURES = {
    "tab_field_list": ["Age", "Positive Feedback Count", "Division Name", "Class Name"],
    "cat_field_list": ["Division Name", "Class Name"],
}
CLASSES = {
    "bert": {**ONE_TEXT, "text_encoder": ENCODER},
    "transformers_classifier": {**ONE_TEXT, "text_encoder": ENCODER},
    "lstm": {**ONE_TEXT, **EMBEDDING},
    "text_cnn": {**ONE_TEXT, **CNN},
    "tabular": {**FEATURES, **HIDDEN},
    "bimodal_bert": {**ONE_TEXT, **FEATURES, **BERT},
    "bimodal_cnn": {**ONE_TEXT, **FEATURES, **CNN},
    "bimodal_cross_attn": {**ONE_TEXT, **FEATURES, **BERT},
    "bimodal_gate_fusion": {**ONE_TEXT, **FEATURES, **BERT},
    "bimodal_moe": {**ONE_TEXT, **FEATURES, **BERT},
    "trimodal_bert": {**TWO_TEXTS, **FEATURES, **BERT},
    "trimodal_cross_attn": {**TWO_TEXTS, **FEATURES, **BERT},
    "trimodal_gate_fusion": {**TWO_TEXTS, **FEATURES, **BERT},
}
"""Columns that each model class reads, and its own config keys."""


@pytest.fixture(autouse=True)
def quiet_log(monkeypatch):
    """The log as it was, after a command has configured it."""
    logger = logging.getLogger("bsm")
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Sixty reviews, twelve of each rating, as a CSV file in a folder of its own."""
    reviews = pd.read_csv(REVIEWS, dtype=str, keep_default_na=False)
    path = tmp_path_factory.mktemp("rows") / "reviews.csv"
    reviews.groupby("Rating").head(12).to_csv(path, index=False)
    return path


def config_of(name, **changes):
    return {"model_class": name, **TINY, **CLASSES[name], **changes}


def bsm(capsys, *arguments):
    """Run a command, which must succeed and may only warn that the tiny model learned little; gives what it printed."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    warnings = [line for line in captured.err.splitlines() if " WARNING " in line]
    assert not [line for line in warnings if "no better than the majority class" not in line]
    return captured.out


def train_and_run(folder, rows, config, capsys):
    """``bsm train``, with the rows themselves to measure on, ``bsm inspect`` and ``bsm run``; gives the predictions."""
    (folder / "config.json").write_text(json.dumps(config))
    model, predictions = folder / "model", folder / "predictions"
    bsm(capsys, "train", "--config", folder / "config.json", "--data", rows, "--validation", rows, "--output", model)
    assert json.loads(bsm(capsys, "inspect", "--json", model))["problems"] == []
    places = ["--model-dir", model, "--data-dir", rows.parent, "--output-dir", predictions]
    bsm(capsys, "run", "--job_type", "testing", "--id-field", "review_id", "--device", "cpu", *places)
    assert (predictions / "_SUCCESS").exists()
    return pd.read_csv(predictions / "inference_predictions.csv", dtype={"review_id": str})


def check_scores(folder, rows, predicted, label, order):
    """The predictions stand for the rows in order, and score as well as training said the best epoch does."""
    given = pd.read_csv(rows, dtype=str)
    assert predicted["review_id"].tolist() == given["review_id"].tolist()
    assert list(predicted.columns)[1:] == [f"prob_class_{i}" for i in range(len(order))]
    probabilities = predicted.iloc[:, 1:].to_numpy()
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-9
    right = probabilities[np.arange(len(given)), [order.index(text) for text in given[label]]]
    metrics = json.loads((folder / "model/training_metrics.json").read_text())
    assert metrics["rows"] == {"training": len(given), "validation": len(given)}
    assert metrics["best"]["log_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)


def test_every_class_is_trained_here():
    registry = Registry.discover()
    components = [registry.resolve("model_class", name) for name in registry.names("model_class")]
    assert {component.name for component in components if component.provider.distribution == "bsm-core"} == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_trained_inspected_and_run(name, tmp_path, rows, capsys):
    predicted = train_and_run(tmp_path, rows, config_of(name), capsys)
    check_scores(tmp_path, rows, predicted, "Recommended IND", ["0", "1"])


@pytest.mark.parametrize("name", ["bimodal_bert", "trimodal_gate_fusion"])
def test_without_features(name, tmp_path, rows, capsys):
    predicted = train_and_run(tmp_path, rows, config_of(name, tab_field_list=[], cat_field_list=[]), capsys)
    check_scores(tmp_path, rows, predicted, "Recommended IND", ["0", "1"])


def test_five_ratings_from_title_and_text(tmp_path, rows, capsys):
    config = config_of("trimodal_bert", label_name="Rating", is_binary=False, num_classes=5, class_weights="balanced")
    predicted = train_and_run(tmp_path, rows, config, capsys)
    check_scores(tmp_path, rows, predicted, "Rating", ["1", "2", "3", "4", "5"])
    written = json.loads((tmp_path / "model/hyperparameters.json").read_text())
    assert written["multiclass_categories"] == [1, 2, 3, 4, 5]
    assert written["class_weights"] == pytest.approx([1.0] * 5)


def test_both_texts_and_the_features_are_read(tmp_path, rows, capsys):
    train_and_run(tmp_path, rows, config_of("trimodal_gate_fusion"), capsys)
    predictor, given = Predictor.from_artifact(tmp_path / "model"), pd.read_csv(rows, dtype=str).fillna("").head(20)
    before = predictor.predict(given).to_numpy()
    for column, value in {"Title": "love it", "Review Text": "i sent this dress back", "Age": "90"}.items():
        assert (predictor.predict(given.assign(**{column: value})).to_numpy() != before).any(axis=1).sum() > 10, column


def test_two_fields_start_from_two_pretrained_encoders_with_their_own_tokenizers(tmp_path, rows, capsys):
    texts = pd.read_csv(rows, dtype=str)["Review Text"].fillna("").tolist()
    config = config_of("trimodal_bert", lr=1e-12)
    del config["text_encoder"], config["vocab_size"]
    starts = {}
    for size, prefix in ((8, "primary"), (12, "secondary")):
        folder = tmp_path / prefix
        tokenizer = fit_wordpiece(texts, vocab_size=100 + size, min_frequency=1, max_length=32)
        tokenizer.save_pretrained(folder)
        encoder = BertModel(BertConfig(**{**ENCODER, "hidden_size": size, "vocab_size": len(tokenizer)}))
        encoder.save_pretrained(folder)
        starts[prefix] = encoder.embeddings.word_embeddings.weight
        config |= {f"{prefix}_text_encoder": str(folder), f"{prefix}_tokenizer": str(folder)}
    predicted = train_and_run(tmp_path, rows, config, capsys)
    check_scores(tmp_path, rows, predicted, "Recommended IND", ["0", "1"])
    weights = safetensors.torch.load_file(tmp_path / "model/model.safetensors")
    for prefix, start in starts.items():
        kept = weights[f"{prefix}_text_subnetwork.bert.embeddings.word_embeddings.weight"]
        assert torch.allclose(kept, start, atol=1e-6)
        assert (tmp_path / f"model/{prefix}_tokenizer/tokenizer.json").exists()
        assert (tmp_path / f"model/{prefix}_text_encoder/config.json").exists()
    assert not (tmp_path / "model/tokenizer").exists()
    assert str(tmp_path) not in (tmp_path / "model/hyperparameters.json").read_text()


def test_training_records_the_largest_magnitudes(tmp_path):
    rows = pd.DataFrame({"id": range(40), "a": [-3.5, *[1.0] * 39], "empty": [None] * 40, "label": [0, 1] * 20})
    config = {"model_class": "tabular", "tab_field_list": ["a", "empty"], "hidden_common_dim": 4, "label_name": "label"}
    train({**config, "max_epochs": 1, "validation_fraction": 0}, rows, tmp_path / "model")
    predictor, issues = Predictor.from_artifact(tmp_path / "model"), []
    assert predictor.preprocessor.config.largest_magnitudes == {"a": 3.5, "empty": 1.0}
    assert len(predictor.predict(pa.table({"a": [1e9, 1.0], "empty": [5.0, None]}), on_issue=issues.append)) == 2
    assert issues == []
