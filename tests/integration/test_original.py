"""An artifact that the original project's training wrote, and the probabilities that its own scripts gave.

What no row reaches is zeros in the weights, as in ``tests/data/goldens``.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from bsm_core import Predictor
from bsm_core.artifact import Artifact, pack
from bsm_core.artifact.description import describe
from bsm_core.scoring import job
from bsm_core.training import train

ORIGINAL = Path(__file__).parents[1] / "data/original/bimodal_bert"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(ORIGINAL / "model", tmp_path_factory.mktemp("packed") / "model", compat="original")


def differences(model, name, tmp_path, **flags):
    """Return the largest difference of each row's probabilities from those of the original, by id."""
    places = {"model_dir": model, "data_dir": ORIGINAL / f"{name}.csv", "output_dir": tmp_path / "out"}
    path = job.run({"job_type": "inference", "device": "cpu", "id_field": "order_id", **places, **flags}, {}).path
    got, want = (
        pd.read_csv(path, dtype={"order_id": str}),
        pd.read_csv(ORIGINAL / f"{name}.expected.csv", dtype={"order_id": str}),
    )
    assert got["order_id"].tolist() == want["order_id"].tolist()
    return (got.iloc[:, 1:] - want.iloc[:, 1:]).abs().max(axis=1).set_axis(got["order_id"])


@pytest.mark.parametrize("name", ["rows", "edges"])
def test_with_compat_the_scores_are_those_of_the_original(packed, name, tmp_path):
    assert differences(packed, name, tmp_path).max() < 1e-5
    assert differences(packed, name, tmp_path / "again", window_rows=7, num_workers=1).max() < 1e-5


def test_without_compat_some_differ(tmp_path):
    off = differences(ORIGINAL / "model", "edges", tmp_path)
    assert {"no_marker", "cjk", "emoji_e2", "new_emoji", "copyright", "quotes"} <= {*off[off > 1e-5].index}


def test_an_artifact_of_the_original_is_named_once(packed, caplog):
    with caplog.at_level(logging.WARNING, logger="bsm"):
        Artifact.load(ORIGINAL / "model")
        assert caplog.text.count("--compat original") == 1
        caplog.clear()
        Artifact.load(packed)
        assert "--compat" not in caplog.text


def test_who_decides_against_it_is_not_warned(tmp_path, caplog):
    model = shutil.copytree(ORIGINAL / "model", tmp_path / "model")
    path = model / "hyperparameters.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "compat": None}))
    with caplog.at_level(logging.WARNING, logger="bsm"):
        assert Artifact.load(model).config.compat is None
    assert "--compat" not in caplog.text


def test_compat_wins_over_model_artifacts_and_drops_check_rows(tmp_path, caplog):
    model = shutil.copytree(ORIGINAL / "model", tmp_path / "model")
    content = torch.load(model / "model_artifacts.pth", weights_only=False)
    content["config"]["compat"] = None
    torch.save(content, model / "model_artifacts.pth")
    (model / "self_check.json").write_text("{}")
    packed = Artifact.load(pack(model, tmp_path / "packed", compat="original"))
    assert packed.config.compat == "original"
    assert packed.check_rows is None
    assert "check rows are left out" in caplog.text


def test_only_cells_of_csv_are_missing_by_their_text(packed):
    """``read_csv`` takes NA as missing; ``read_parquet`` does not."""
    predictor = Predictor.from_artifact(packed)
    row = pd.read_csv(ORIGINAL / "edges.csv", dtype=str, keep_default_na=False).iloc[:1]
    assert predictor.predict(row.assign(dialogue="NA")).equals(predictor.predict(row.assign(dialogue="")))


def test_a_model_can_be_trained_with_compat(tmp_path):
    rows = pd.DataFrame({"text": ["[bom] good [eom]", "bad"] * 20, "x": [1.0, None] * 20, "label": [1, 0] * 20})
    config = {
        "model_class": "bimodal_cnn", "compat": "original", "text_name": "text", "tab_field_list": ["x"],
        "label_name": "label", "max_epochs": 1, "max_sen_len": 16, "hidden_common_dim": 4, "embed_size": 4,
        "num_channels": [4, 4], "kernel_size": [3],
    }  # fmt: skip
    artifact = train(config, rows, tmp_path / "model").folder
    assert Artifact.load(artifact).config.compat == "original"
    predictor = Predictor.from_artifact(artifact)
    scores = predictor.predict(pd.DataFrame({"text": ["bad", ""], "x": [None, -1.0]}))
    assert scores.iloc[0].equals(scores.iloc[1])


def test_an_unknown_value_is_refused(tmp_path):
    model = shutil.copytree(ORIGINAL / "model", tmp_path / "model")
    path = model / "hyperparameters.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "compat": "other"}))
    with pytest.raises(Exception, match="compat"):
        Artifact.load(model)


def test_inspect_says_it(packed):
    packed, plain = describe(packed), describe(ORIGINAL / "model")
    assert {feature["missing"] for feature in packed.features} == {-1.0}
    assert "\ncompat\n  original\n" in packed.to_text()
    assert plain.features[0]["missing"] != -1.0
    assert [warning for warning in plain.warnings if "--compat original" in warning]
    assert not packed.warnings
