"""Artifacts that somebody made to hurt: each is refused at once, by name and reason, in one process that survives.

``bsm inspect`` and ``bsm run`` are both tried on each.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from support.confined import MEGABYTES, SECONDS, Outcome, confined

GOLDENS = Path(__file__).parents[1] / "data/goldens"
ENV = {"ID_FIELD": "order_id", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def model(tmp_path):
    """An artifact that is whole."""
    return Path(shutil.copytree(GOLDENS / "bimodal_bert/model", tmp_path / "model"))


def is_clean(outcome: Outcome) -> bool:
    return all(c.isprintable() or c == "\n" for c in outcome.out + outcome.err)


def refused(tmp_path: Path, model: Path, *words: str) -> Outcome:
    """Check that both commands refuse the artifact with all of the words, and return what ``bsm run`` did."""
    inspected = confined(tmp_path / "inspected", "inspect", model)
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(GOLDENS / "golden.csv", data)
    out = tmp_path / "out"
    folders = ("--model-dir", model, "--data-dir", data, "--output-dir", out)
    ran = confined(tmp_path / "ran", "run", "--job_type", "testing", "--device", "cpu", *folders, env=ENV)
    for outcome, shown in ((inspected, inspected.out), (ran, ran.err)):
        assert outcome.status == 1, outcome
        assert "Traceback" not in outcome.err
        assert is_clean(outcome), outcome
        assert all(word in shown for word in words), outcome
        assert outcome.seconds < SECONDS
        assert outcome.megabytes < MEGABYTES
    assert "\nproblems\n  none" not in inspected.out
    failure = (out / "_FAILURE").read_text()
    assert failure.count("\n") == 1
    assert failure.removesuffix("\n").isprintable()
    assert all(word in failure for word in words)
    assert [path.name for path in out.iterdir()] == ["_FAILURE"]
    return ran


# Names


FORGED = "score\x1b[31m\n12:00:00 INFO forged\u202e"
SHOWN = r"score\x1b[31m\n12:00:00 INFO forged\u202e"


def test_names_with_escape_sequences_in_tables_are_shown_escaped(tmp_path, model):
    (model / "impute_dict.pkl").write_bytes(pickle.dumps({FORGED: "x\x1b[2J"}, 2))
    refused(tmp_path, model, "impute_dict.pkl", SHOWN, r"x\x1b[2J")


def test_names_of_weights_are_shown_escaped(tmp_path, model):
    weights = torch.load(model / "model.pth", weights_only=True)
    torch.save(weights | {f"{FORGED}.w": torch.zeros(1)}, model / "model.pth")
    refused(tmp_path, model, SHOWN)


def test_a_dtype_of_safetensors_is_shown_escaped(tmp_path, model):
    header = json.dumps({"w": {"dtype": "F\x1b[31m", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (model / "model.pth").unlink()
    refused(tmp_path, model, "model.safetensors")


def test_names_of_files_cannot_forge_a_section(tmp_path, model):
    (model / "x\nproblems\n  none\x1b[2J").write_bytes(b"")
    outcome = confined(tmp_path / "inspected", "inspect", model)
    assert outcome.status == 0
    assert outcome.out.count("\nproblems\n") == 1
    assert r"x\nproblems\n  none\x1b[2J" in outcome.out
    assert is_clean(outcome)
