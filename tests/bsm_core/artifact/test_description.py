from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from types import SimpleNamespace

import pytest
from support.artifacts import CONFIG, write_artifact

from bsm_core.artifact import Artifact, describe, pack
from bsm_core.plugins.registry import Component, Provider, Registry

CHECK = {
    "precision": "fp32",
    "device": "cpu",
    "versions": {"torch": "2.11.0", "numpy": "2.1"},
    "rows": [{}],
    "probabilities": [[1.0]],
    "tokens": {},
    "features": {},
}
STEPS = ("dialogue_splitter", "html_normalizer", "emoji_remover", "text_normalizer", "dialogue_chunker", "tokenizer")


@pytest.fixture
def registry():
    provider = Provider("acme", "1.2", "acme")
    steps = [Component("step", name, f"acme_steps:{name}", provider) for name in STEPS]
    return Registry([*steps, Component("model_class", "bimodal_bert", "acme_models:Bert", provider)])


def test_a_whole_artifact_is_described(tmp_path, registry):
    write_artifact(tmp_path, model_artifacts={"torch_version": "2.1"})
    description = describe(tmp_path, registry)
    assert description.problems == []
    assert description.model_class == "bimodal_bert"
    assert description.text_fields == [
        {
            "key": "text_name",
            "column": "dialogue",
            "steps": list(STEPS),
            "tokenizer": "tokenizer",
            "text_encoder": "text_encoder",
        }
    ]
    assert description.features == [
        {"name": "amount", "kind": "number", "missing": 1.5},
        {"name": "channel", "kind": "risk table", "bins": 2, "missing": 0.2},
        {"name": "age", "kind": "number", "missing": 40.0},
    ]
    assert description.weights == {
        "parameters": 14,
        "bytes": 56,
        "tensors": 2,
        "dtypes": ["float32"],
        "parts": {"encoder": 12, "head": 2},
    }
    assert description.versions == {"torch_version": "2.1"}
    assert {item["name"]: item["sha256"] for item in description.files} == Artifact.load(tmp_path).hashes
    assert description.components[0] == {
        "kind": "model_class",
        "name": "bimodal_bert",
        "provider": "acme==1.2:acme_models:Bert",
        "problem": None,
    }
    assert [item["name"] for item in description.components[1:]] == list(STEPS)


def test_keys_about_tables_are_described(tmp_path, registry):
    folder = write_artifact(tmp_path)
    path = folder / "hyperparameters.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"csv_delimiter": ";", "csv_decimal": ","}))
    description = describe(folder, registry)
    assert description.tables == {"csv_delimiter": ";", "csv_decimal": ","}
    assert "tables\n  csv_delimiter: ';'\n  csv_decimal: ','\n" in description.to_text()


def test_it_is_json_and_text(tmp_path, registry):
    description = describe(write_artifact(tmp_path), registry)
    assert json.loads(json.dumps(description.to_dict()))["model_class"] == "bimodal_bert"
    text = description.to_text()
    digest = hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest()
    for words in (
        "bimodal_bert",
        "dialogue (text_name)",
        "channel: risk table of 2 bins",
        "14 parameters",
        digest[:12],
    ):
        assert words in text
    assert text.endswith("problems\n  none")


def test_an_archive_is_described(tmp_path, registry):
    archive = pack(write_artifact(tmp_path / "old"), tmp_path / "model.tar.gz")
    description = describe(archive, registry)
    assert description.problems == []
    assert "model.safetensors" in [item["name"] for item in description.files]


def test_everything_that_is_wrong_is_listed(tmp_path, registry):
    write_artifact(
        tmp_path,
        config=CONFIG | {"model_class": "bimodal_bret", "text_processing_steps": ["moon_step", "tokenizer"]},
        with_tokenizer=False,
    )
    (tmp_path / "model.pth").write_bytes(b"rubbish")
    (tmp_path / "risk_table_map.pkl").write_bytes(b"cos\nsystem\n.")
    (tmp_path / "impute_dict.pkl").unlink()
    description = describe(tmp_path, registry)
    problems = "\n".join(description.problems)
    for words in ("model.pth cannot be read", "os.system", "bimodal_bert", "moon_step"):
        assert words in problems
    assert "text_name: the tokenizer is not in the artifact; 'tokenizer' will be looked for" in problems
    assert len(description.problems) == 5
    assert description.warnings == ["the artifact has no impute_dict.pkl; no feature needs it"]
    assert description.weights == {}
    assert description.model_class == "bimodal_bret"
    assert [item["provider"] is None for item in description.components] == [True, True, False]
    assert "not found, see problems" in description.to_text()


def test_a_broken_config_still_shows_the_model_class(tmp_path, registry):
    description = describe(write_artifact(tmp_path, config=CONFIG | {"max_sen_len": "long"}), registry)
    assert description.model_class == "bimodal_bert"
    assert description.components[0]["provider"] == "acme==1.2:acme_models:Bert"
    [problem] = description.problems
    assert "max_sen_len" in problem


@pytest.mark.parametrize("broken", ["hyperparameters.json", "model_artifacts.pth"])
def test_the_other_half_of_the_config_is_enough(tmp_path, registry, broken):
    write_artifact(tmp_path)
    (tmp_path / broken).write_bytes(b"rubbish")
    description = describe(tmp_path, registry)
    assert description.model_class == "bimodal_bert"
    assert description.features
    [problem] = description.problems
    assert broken in problem


def test_nothing_at_all_is_described_too(tmp_path, registry):
    assert "no artifact" in describe(tmp_path / "nowhere", registry).problems[0]
    assert "lacks 5 file(s)" in describe(tmp_path, registry).problems[0]


def test_a_dangerous_archive_is_described_by_its_problem(tmp_path, registry):
    (tmp_path / "model.tar.gz").write_bytes(b"rubbish")
    description = describe(tmp_path, registry)
    assert "damaged" in description.to_text()
    assert description.files == []


@pytest.mark.parametrize(("wants", "told"), [("text_encoder", True), ("primary_text_encoder", False), (None, False)])
def test_an_encoder_is_told_of_where_the_model_class_wants_one(tmp_path, monkeypatch, registry, wants, told):
    config = SimpleNamespace(model_fields=[wants] if wants else [])
    module = SimpleNamespace(Bert=type("Bert", (), {"Config": config}))
    monkeypatch.setitem(sys.modules, "acme_models", module)
    description = describe(write_artifact(tmp_path, encoder_config=None), registry)
    assert ("text_encoder" in description.text_fields[0]) == told
    assert ("text_encoder: not in the artifact" in description.to_text()) == told


def test_config_keys_that_disagree_are_no_problem_but_told(tmp_path, registry):
    hyperparameters = {**CONFIG, "batch_size": 8, "chunk_truncate": True, "only_here": 1}
    write_artifact(tmp_path, config={**CONFIG, "chunk_trancate": False}, hyperparameters=hyperparameters)
    description = describe(tmp_path, registry)
    line = "hyperparameters.json and model_artifacts.pth disagree, and the latter counts: batch_size, chunk_trancate"
    assert description.warnings == [line]
    assert description.problems == []
    assert f"warnings\n  {line}\nproblems\n  none" in description.to_text()
    assert "warnings" not in describe(write_artifact(tmp_path / "same"), registry).to_text()


def test_check_rows_are_shown_with_what_they_were_made_with(tmp_path, registry):
    write_artifact(tmp_path)
    assert describe(tmp_path, registry).self_check == {}
    assert "self-check" not in describe(tmp_path, registry).to_text()
    (tmp_path / "self_check.json").write_text(json.dumps(CHECK))
    description = describe(tmp_path, registry)
    assert description.self_check == {"rows": 1, **{key: CHECK[key] for key in ("precision", "device", "versions")}}
    assert "self-check\n  1 row(s), fp32 on cpu, torch 2.11.0, numpy 2.1\n" in description.to_text()
    assert description.problems == []


def test_check_rows_that_cannot_be_read_are_a_problem(tmp_path, registry):
    write_artifact(tmp_path)
    (tmp_path / "self_check.json").write_text("{}")
    (problem,) = describe(tmp_path, registry).problems
    assert problem.startswith("CorruptArtifactError: self_check.json does not hold check rows")


@pytest.mark.parametrize("archived", [False, True])
def test_weights_in_another_form_are_named(tmp_path, archived):
    folder = write_artifact(tmp_path / "model")
    (folder / "model.pth").unlink()
    (folder / "step1").mkdir()
    (folder / "step1/__0_0.distcp").write_bytes(b"x")
    path = folder
    if archived:
        path = tmp_path / "model.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder, "model")
    [problem] = describe(path).problems
    assert "found step1/__0_0.distcp: a checkpoint of FSDP" in problem.replace("model/step1", "step1")
    assert str(path) in problem
