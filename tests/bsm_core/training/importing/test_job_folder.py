from __future__ import annotations

import json
import shutil

import pytest
import torch
from support.artifacts import CONFIG, ENCODER_CONFIG, IMPUTE, RISK_TABLES
from support.classifiers import make_tokenizer

from bsm_core import Predictor
from bsm_core.artifact import Artifact, save_artifact
from bsm_core.errors import MissingArtifactFilesError, UsageError, WeightsMismatchError
from bsm_core.training import import_model
from bsm_plugins_models.bimodal import BimodalBert

VALUES = {**CONFIG, "text_processing_steps": ["tokenizer"], "hidden_common_dim": 8}
ENCODER = {**ENCODER_CONFIG, "vocab_size": 90}
ROWS = {"dialogue": ["good", ""], "amount": ["1", None], "channel": ["online", "x"], "age": ["3", "4"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a job with all files."""
    folder = tmp_path_factory.mktemp("job") / "whole"
    torch.manual_seed(0)
    weights = BimodalBert.from_config({**VALUES, "text_encoder": ENCODER}).state_dict()
    return save_artifact(
        folder,
        config=VALUES,
        state_dict=weights,
        risk_tables=RISK_TABLES,
        impute=IMPUTE,
        tokenizers={"": make_tokenizer("bert")},
        encoder_configs={"": ENCODER},
    )


@pytest.fixture
def job(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "job")


def imported(job):
    return Artifact.load(import_model(job, job.parent / "artifact"))


def remove(job, *names):
    for name in names:
        shutil.rmtree(job / name) if (job / name).is_dir() else (job / name).unlink()


@pytest.mark.parametrize(
    "lacking",
    [
        [],
        ["hyperparameters.json"],
        ["model_artifacts.pth"],
        ["model.safetensors", "risk_table_map.json", "impute_dict.json"],
        ["model.pth", "risk_table_map.pkl", "impute_dict.pkl"],
    ],
)
def test_what_can_be_had_is_taken(whole, job, lacking):
    remove(job, *lacking)
    artifact = imported(job)
    assert artifact.config == Artifact.load(whole).config
    names = {path.name for path in artifact.folder.iterdir()}
    assert names == {
        *("hyperparameters.json", "impute_dict.json", "model.safetensors", "model_artifacts.pth", "provenance.json"),
        *("risk_table_map.json", "text_encoder", "tokenizer"),
    }
    got, want = (Predictor.from_artifact(folder).predict_proba(ROWS) for folder in (artifact.folder, whole))
    assert (got == want).all()


def test_what_was_made_is_said(job, caplog):
    remove(job, "model_artifacts.pth")
    imported(job)
    assert "there is no model_artifacts.pth: it is made of hyperparameters.json" in caplog.text


def test_files_that_no_artifact_has_are_left_out(job, caplog):
    caplog.set_level("INFO")
    names = {"train.csv", "vocab.pkl", "optimizer.pt", "checkpoints/last.ckpt", "logs/events.json", "code/train.py"}
    for name in names:
        (job / name).parent.mkdir(exist_ok=True)
        (job / name).write_bytes(b"x")
    written = {path.name for path in imported(job).folder.rglob("*")}
    assert not written & {name.rpartition("/")[2] for name in names}
    assert f"files that no artifact has are left out: {', '.join(sorted(names))}" in caplog.text


@pytest.mark.parametrize("name", ["epoch=3-step=40.ckpt", "best.pt", "checkpoints/last.ckpt"])
def test_weights_of_another_name(whole, job, name):
    weights = Artifact.load(whole).weights
    remove(job, "model.safetensors", "model.pth")
    (job / name).parent.mkdir(exist_ok=True)
    torch.save({"state_dict": {f"model.{key}": value for key, value in weights.items()}}, job / name)
    torch.save({"state": {}}, job / "optimizer.pt")
    assert Predictor.open(imported(job).folder).predict_proba(ROWS).shape == (2, 2)


def test_everything_that_is_fatal_is_listed(job):
    remove(job, "model.safetensors", "model.pth", "hyperparameters.json", "model_artifacts.pth")
    with pytest.raises(MissingArtifactFilesError) as caught:
        imported(job)
    assert [line.partition(":")[0] for line in caught.value.details] == ["the weights", "the config"]
    assert not (job.parent / "artifact").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("adapter_model.safetensors", "an adapter (PEFT)"),
        ("model-00001-of-00002.safetensors", "sharded into several files"),
        ("mp_rank_00_model_states.pt", "a DeepSpeed checkpoint"),
    ],
)
def test_files_that_are_not_all_weights_are_not_taken(job, name, told):
    remove(job, "model.safetensors", "model.pth")
    (job / name).write_bytes(b"x")
    with pytest.raises(MissingArtifactFilesError) as caught:
        imported(job)
    [weights] = caught.value.details
    assert told in weights


def test_what_the_config_needs_is_listed(job):
    remove(
        job, "tokenizer", "text_encoder", "risk_table_map.json", "risk_table_map.pkl", "model.safetensors", "model.pth"
    )
    (job / "a.ckpt").touch()
    (job / "b.ckpt").touch()
    with pytest.raises(MissingArtifactFilesError) as caught:
        imported(job)
    weights, tables, encoder, tokenizer = caught.value.details
    assert "a.ckpt, b.ckpt all hold weights" in weights
    assert "risk_table_map.pkl or risk_table_map.json" in tables
    assert "no encoder config was found" in encoder
    assert "no tokenizer was found" in tokenizer
    assert caught.value.where == str(job)


def test_tables_that_no_feature_needs_are_a_warning(job, caplog):
    remove(job, "risk_table_map.json", "risk_table_map.pkl", "impute_dict.json", "impute_dict.pkl")
    config = {**VALUES, "tab_field_list": ["amount", "age", "size"], "cat_field_list": []}
    (job / "hyperparameters.json").write_text(json.dumps(config))
    content = torch.load(job / "model_artifacts.pth", weights_only=True)
    torch.save({**content, "config": config}, job / "model_artifacts.pth")
    artifact = imported(job)
    assert artifact.risk_tables == artifact.impute == {}
    assert "the artifact has no risk_table_map.pkl; no feature needs it" in caplog.text


def test_weights_of_another_model(job):
    remove(job, "model.safetensors")
    torch.save({"state_dict": {"layer.weight": torch.ones(2, 2)}}, job / "model.pth")
    with pytest.raises(WeightsMismatchError, match="missing: "):
        imported(job)


def test_the_config_is_that_of_the_folder(job, tmp_path):
    with pytest.raises(UsageError, match="text_column cannot be used"):
        import_model(job, tmp_path / "artifact", text_column="dialogue")
    with pytest.raises(UsageError, match="config cannot be used"):
        import_model(job, tmp_path / "artifact", config="config.json")
