"""Check rows of an artifact with a real tokenizer and real text steps, by the contract's script."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from bsm_core.errors import SelfCheckError
from bsm_core.scoring.self_check import add_check

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "tests/data/goldens"
SCRIPT = ROOT / "scripts/pytorch_model_inference.py"


@pytest.fixture
def model(tmp_path):
    folder = shutil.copytree(GOLDENS / "bimodal_bert/model", tmp_path / "model")
    add_check(folder, pd.read_parquet(GOLDENS / "golden.parquet"))
    return folder


@pytest.fixture
def run(model, tmp_path):
    """The script's ``run_batch_inference`` on that artifact."""
    spec = importlib.util.spec_from_file_location("inference_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    (tmp_path / "data").mkdir()
    shutil.copy(GOLDENS / "golden.csv", tmp_path / "data")
    places = {"model_dir": model, "data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    return lambda **more: script.run_batch_inference(
        {"ID_FIELD": "order_id"}, job_type="inference", device="cpu", **places, **more
    )


def reverse_vocabulary(model):
    path = model / "tokenizer/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = dict(zip(vocab, reversed(vocab.values()), strict=True))
    path.write_text(json.dumps(tokenizer))


def leave_cleaning_out(model):
    values = torch.load(model / "model_artifacts.pth", weights_only=False)  # a file of this repository
    values["config"]["text_processing_steps"] = ["dialogue_splitter", "dialogue_chunker", "tokenizer"]
    torch.save(values, model / "model_artifacts.pth")


def test_an_artifact_that_is_as_it_was_runs(run):
    run()


@pytest.mark.parametrize("change", [reverse_vocabulary, leave_cleaning_out])
def test_another_tokenizer_or_other_steps_are_refused_and_said(run, model, change):
    change(model)
    with pytest.raises(SelfCheckError, match="tokens of 'dialogue' differ") as caught:
        run()
    assert "features differ" not in str(caught.value)
    run(self_check=False)
