from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from support.artifacts import CONFIG, ENCODER_CONFIG, IMPUTE, RISK_TABLES, state_dict, write_artifact
from torch.torch_version import TorchVersion

from bsm_core.artifact import Artifact, load, unpacked
from bsm_core.errors import (
    ConfigError,
    CorruptArtifactError,
    MissingArtifactFilesError,
    TokenizerError,
    WeightsMismatchError,
)


def test_an_old_artifact_loads_whole(tmp_path):
    extra = {
        "embedding_mat": np.ones((5, 2), dtype="f4"),
        "vocab": {"a": 0},
        "torch_version": TorchVersion("2.1.0"),
        "transformers_version": "4.40",
    }
    artifact = Artifact.load(write_artifact(tmp_path, model_artifacts=extra))
    assert artifact.config.model_class == "bimodal_bert"
    assert {key: value.tolist() for key, value in artifact.weights.items()} == {
        key: value.tolist() for key, value in state_dict().items()
    }
    assert artifact.risk_tables == RISK_TABLES
    assert artifact.impute == IMPUTE
    assert artifact.embedding_mat.shape == (5, 2)
    assert artifact.vocab == {"a": 0}
    assert artifact.versions == {"torch_version": "2.1.0", "transformers_version": "4.40"}


def test_every_file_is_hashed_by_its_relative_name(tmp_path):
    write_artifact(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "file").write_text("x")
    hashes = Artifact.load(tmp_path).hashes
    assert ".hidden/file" not in hashes
    assert hashes["model.pth"] == hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest()
    assert "tokenizer/tokenizer.json" in hashes
    assert "text_encoder/config.json" in hashes


def test_all_missing_files_are_listed_at_once(tmp_path):
    (tmp_path / "hyperparameters.json").write_text("{}")
    with pytest.raises(MissingArtifactFilesError) as caught:
        Artifact.load(tmp_path)
    assert caught.value.details == (
        "model_artifacts.pth",
        "model.pth or model.safetensors",
        "risk_table_map.pkl or risk_table_map.json",
        "impute_dict.pkl or impute_dict.json",
    )
    assert isinstance(caught.value, FileNotFoundError)


# The config


def test_model_artifacts_win_over_hyperparameters(tmp_path):
    write_artifact(
        tmp_path,
        config={"model_class": "bert", "max_sen_len": 99, "only_there": 1},
        hyperparameters={"model_class": "lstm", "max_sen_len": 11, "batch_size": 7, "only_here": 2},
    )
    config = Artifact.load(tmp_path).config
    assert (config.model_class, config.max_sen_len, config.batch_size) == ("bert", 99, 7)
    assert config.model_extra == {"only_there": 1, "only_here": 2}


def test_null_is_the_default(tmp_path):
    write_artifact(tmp_path, config=CONFIG | {"max_sen_len": None}, hyperparameters=CONFIG | {"batch_size": None})
    config = Artifact.load(tmp_path).config
    assert config.max_sen_len == 512
    assert config.batch_size == 4


@pytest.mark.parametrize(
    ("here", "there"), [("chunk_trancate", "chunk_truncate"), ("chunk_truncate", "chunk_trancate")]
)
def test_model_artifacts_win_under_the_other_spelling_too(tmp_path, here, there):
    write_artifact(tmp_path, config=CONFIG | {there: True}, hyperparameters=CONFIG | {here: False})
    assert Artifact.load(tmp_path).config.chunk_trancate is True


def test_config_errors_are_all_listed(tmp_path):
    write_artifact(tmp_path, config={"max_sen_len": -1}, hyperparameters={"batch_size": "x"})
    with pytest.raises(ConfigError) as caught:
        Artifact.load(tmp_path)
    assert {line.partition(":")[0] for line in caught.value.details} == {"model_class", "max_sen_len", "batch_size"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{"])
def test_hyperparameters_that_are_no_object_are_corrupt(tmp_path, data):
    write_artifact(tmp_path)
    (tmp_path / "hyperparameters.json").write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"hyperparameters\.json"):
        Artifact.load(tmp_path)


def test_a_vocab_that_is_no_dict_is_corrupt(tmp_path):
    write_artifact(tmp_path, model_artifacts={"vocab": ["a"]})
    with pytest.raises(CorruptArtifactError, match="vocab is a list"):
        Artifact.load(tmp_path)


def test_the_risk_table_of_a_text_field_is_ignored(tmp_path):
    write_artifact(tmp_path, risk_tables=RISK_TABLES | {"dialogue": {"bins": {}}})
    assert Artifact.load(tmp_path).risk_tables == RISK_TABLES


# What a model class is given


def test_a_model_gets_every_config_key_and_nothing_else_unasked(tmp_path):
    config = Artifact.load(write_artifact(tmp_path, config=CONFIG | {"hidden": 3})).model_config()
    assert config["hidden"] == 3
    assert config["max_total_chunks"] == 5
    assert "text_encoder" not in config
    assert "embedding_shape" not in config


def test_a_model_gets_what_it_wants(tmp_path):
    write_artifact(tmp_path, model_artifacts={"embedding_mat": torch.ones(5, 2)})
    config = Artifact.load(tmp_path).model_config(["text_encoder", "embedding_shape", "a_key_of_its_own"])
    assert "a_key_of_its_own" not in config
    assert config["text_encoder"] == ENCODER_CONFIG
    assert config["embedding_shape"] == [5, 2]


def test_code_that_an_encoder_config_points_to_is_left_out(tmp_path):
    write_artifact(tmp_path, encoder_config={**ENCODER_CONFIG, "auto_map": {"AutoModel": "evil.Model"}})
    assert Artifact.load(tmp_path).model_config(["text_encoder"])["text_encoder"] == ENCODER_CONFIG


def test_the_encoder_of_one_field_comes_before_the_common_one(tmp_path):
    write_artifact(tmp_path)
    (tmp_path / "primary_text_encoder").mkdir()
    (tmp_path / "primary_text_encoder" / "config.json").write_text('{"model_type": "distilbert"}')
    config = Artifact.load(tmp_path).model_config(["primary_text_encoder", "secondary_text_encoder"])
    assert config["primary_text_encoder"] == {"model_type": "distilbert"}
    assert config["secondary_text_encoder"] == ENCODER_CONFIG


def test_wants_that_cannot_be_met_are_errors(tmp_path):
    write_artifact(tmp_path, encoder_config=None, config=CONFIG | {"tokenizer": None})
    artifact = Artifact.load(tmp_path)
    with pytest.raises(TokenizerError, match="no encoder config"):
        artifact.model_config(["text_encoder"])
    with pytest.raises(CorruptArtifactError, match="embedding matrix"):
        artifact.model_config(["embedding_shape"])


def test_weights_are_given_for_the_keys_of_a_model(tmp_path):
    artifact = Artifact.load(write_artifact(tmp_path))
    expected = {key: value.shape for key, value in state_dict().items()}
    assert artifact.state_dict_for(expected, ()).keys() == expected.keys()
    with pytest.raises(WeightsMismatchError, match=r"unexpected: head\.bias"):
        artifact.state_dict_for({"encoder.weight": torch.Size([3, 4])}, ())


def test_the_config_can_be_read_without_the_weights(tmp_path):
    write_artifact(tmp_path, config=CONFIG | {"batch_size": 9}, hyperparameters=CONFIG | {"only_here": 1})
    (tmp_path / "model.pth").write_bytes(b"rubbish")
    artifact = Artifact.load(tmp_path)
    assert (artifact.raw_config["batch_size"], artifact.raw_config["only_here"]) == (9, 1)
    with pytest.raises(CorruptArtifactError, match=r"model\.pth"):
        artifact.weights  # noqa: B018


def test_each_file_is_read_once_and_when_it_is_used(tmp_path, monkeypatch):
    write_artifact(tmp_path)
    read = []
    for name in ("read_weights", "read_risk_tables", "read_impute", "read_check_rows", "read_provenance"):
        reader = getattr(load, name)
        monkeypatch.setattr(load, name, lambda *a, reader=reader, **k: read.append(reader.__name__) or reader(*a, **k))
    artifact = Artifact.load(tmp_path)
    assert read == []
    assert artifact.impute is artifact.impute
    assert read == ["read_impute"]
    assert artifact.weights is artifact.weights
    assert artifact.risk_tables is artifact.risk_tables
    assert artifact.check_rows is artifact.check_rows is None
    assert artifact.provenance is artifact.provenance is None
    assert read[1:] == ["read_weights", "read_risk_tables", "read_check_rows", "read_provenance"]


def test_weights_that_were_released_are_read_again(tmp_path):
    artifact = Artifact.load(write_artifact(tmp_path))
    weights = artifact.weights
    artifact.release()
    assert artifact.weights is not weights
    assert artifact.weights.keys() == weights.keys()


def test_an_artifact_travels_as_its_folder_and_what_is_hashed(tmp_path):
    artifact = Artifact.load(write_artifact(tmp_path))
    known = artifact.hashes["model.pth"]
    artifact.weights["encoder.weight"].zero_()
    sent = pickle.dumps(artifact)
    assert len(sent) < 1000
    (tmp_path / "impute_dict.pkl").write_bytes(pickle.dumps({"amount": 7.0}))
    (tmp_path / "model.pth").write_bytes(b"rubbish")
    there = pickle.loads(sent)
    assert there.hashes["model.pth"] == known
    assert there.config == artifact.config
    assert there.impute == {"amount": 7.0}


def test_what_is_done_to_a_detached_artifact_stays_there(tmp_path):
    artifact = Artifact.load(write_artifact(tmp_path, config=CONFIG | {"class_weights": [1.0, 2.0]}))
    detached = artifact.detached()
    detached.impute.clear()
    detached.risk_tables["channel"]["bins"].clear()
    detached.weights.clear()
    detached.config.model_extra["class_weights"].clear()
    assert artifact.impute == IMPUTE
    assert artifact.risk_tables == RISK_TABLES
    assert artifact.weights.keys() == state_dict().keys()
    assert artifact.config.model_extra["class_weights"] == [1.0, 2.0]
    assert detached.hashes is artifact.hashes


def test_a_read_only_folder_is_no_obstacle(tmp_path):
    write_artifact(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").rglob("*"))
    (tmp_path / "model").chmod(0o500)
    try:
        with unpacked(tmp_path / "model") as folder:
            Artifact.load(folder)
    finally:
        (tmp_path / "model").chmod(0o700)
    assert sorted(path.name for path in (tmp_path / "model").rglob("*")) == before


def test_tables_that_no_feature_needs_may_be_missing(tmp_path, caplog):
    config = CONFIG | {"tab_field_list": ["amount"], "cat_field_list": ["dialogue", "channel"]}
    write_artifact(tmp_path, config=config)
    (tmp_path / "risk_table_map.pkl").unlink()
    (tmp_path / "impute_dict.pkl").unlink()
    artifact = Artifact.load(tmp_path)
    assert (artifact.risk_tables, artifact.impute) == ({}, {})
    assert caplog.messages == [
        f"the artifact has no {name}.pkl; no feature needs it" for name in ("risk_table_map", "impute_dict")
    ]


def test_a_table_that_a_category_needs_must_be_there(tmp_path):
    write_artifact(tmp_path)
    (tmp_path / "risk_table_map.pkl").unlink()
    with pytest.raises(MissingArtifactFilesError, match=r"risk_table_map\.pkl or risk_table_map\.json"):
        Artifact.load(tmp_path)
