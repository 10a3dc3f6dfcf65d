from __future__ import annotations

import argparse
import json
import pickle

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support.artifacts import IMPUTE, RISK_TABLES
from support.classifiers import make_tokenizer
from torch import nn

from bsm_core import Predictor
from bsm_core.artifact import Artifact
from bsm_core.errors import ConfigError, CorruptArtifactError, UnsafeArtifactError, UsageError, WeightsMismatchError
from bsm_core.training import import_model
from bsm_plugins_models.bimodal import BimodalBert
from bsm_plugins_models.text import Bert, TextCnn

ENCODER = {
    "model_type": "bert",
    "vocab_size": 90,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
CONFIG = {
    "model_class": "bimodal_bert",
    "text_name": "chat",
    "text_processing_steps": ["tokenizer"],
    "tab_field_list": ["amount", "channel"],
    "cat_field_list": ["channel"],
    "hidden_common_dim": 8,
    "max_sen_len": 16,
    "class_names": ["no", "yes"],
}
ROWS = {"chat": ["good dress", "", "it was poor"], "amount": ["1", "2.5", None], "channel": ["online", "x", "retail"]}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The files that a config names, and the weights of the model."""
    folder = tmp_path_factory.mktemp("parts")
    make_tokenizer("bert").save_pretrained(folder / "words")
    (folder / "encoder").mkdir()
    (folder / "encoder" / "config.json").write_text(json.dumps(ENCODER))
    (folder / "tables.pkl").write_bytes(pickle.dumps(RISK_TABLES))
    (folder / "impute.json").write_text(json.dumps(IMPUTE))
    files = {
        "tokenizer": "words",
        "text_encoder": "encoder",
        "risk_table_map": "tables.pkl",
        "impute_dict": "impute.json",
    }
    config = {**CONFIG, **{key: str(folder / name) for key, name in files.items()}}
    torch.manual_seed(0)
    return config, BimodalBert.from_config({**CONFIG, "text_encoder": ENCODER}).state_dict()


def imported(tmp_path, config, checkpoint, **options):
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(checkpoint, tmp_path / "last.ckpt")
    return import_model(tmp_path / "last.ckpt", tmp_path / "artifact", config=tmp_path / "config.json", **options)


@pytest.mark.parametrize("prefix", ["", "model.", "net.inner.", "module."])
def test_a_checkpoint_of_any_prefix_becomes_an_artifact(parts, tmp_path, prefix, caplog):
    caplog.set_level("INFO")
    config, weights = parts
    state = {f"{prefix}{name}": value for name, value in weights.items()} | {"loss.weight": torch.ones(2)}
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": {"lr": 0.1, "depth": 3},
        "epoch": 1,
        "optimizer_states": [{}],
    }
    artifact = Artifact.load(imported(tmp_path, config, checkpoint))
    assert artifact.weights.keys() == weights.keys()
    assert all(torch.equal(artifact.weights[name], value) for name, value in weights.items())
    assert (artifact.risk_tables, artifact.impute) == (RISK_TABLES, IMPUTE)
    assert artifact.config.tokenizer == "tokenizer"
    assert not {"text_encoder", "risk_table_map", "impute_dict"} & artifact.raw_config.keys()
    assert artifact.provenance is not None
    assert Predictor.from_artifact(artifact.folder).predict_proba(ROWS).shape == (3, 2)
    if prefix in ("model.", "net.inner."):
        assert f"the names of all weights begin with {prefix!r}" in caplog.text
    assert "that the config does not have: lr=0.1, depth=3" in caplog.text


class Wrapped(pl.LightningModule):
    """A module of somebody's own around the model."""

    def __init__(self, model, hidden, betas=(0.9, 0.99)) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="model")
        self.net, self.criterion = model, nn.CrossEntropyLoss(weight=torch.ones(2))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.net.parameters())


def test_a_checkpoint_that_lightning_wrote(parts, tmp_path, caplog):
    caplog.set_level("INFO")
    config, weights = parts
    model = BimodalBert.from_config({**CONFIG, "text_encoder": ENCODER})
    model.load_state_dict(weights)
    options = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "default_root_dir": tmp_path}
    trainer = pl.Trainer(callbacks=[ModelCheckpoint(tmp_path)], **options)
    trainer.strategy.connect(Wrapped(model, hidden=8))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = import_model(tmp_path / "last.ckpt", tmp_path / "artifact", config=tmp_path / "config.json")
    assert Predictor.from_artifact(made).predict_proba(ROWS).shape == (3, 2)
    assert "the names of all weights begin with 'net.'" in caplog.text
    assert "that the config does not have: hidden=8" in caplog.text


def test_misfits_are_listed_with_what_the_checkpoint_says_of_them(parts, tmp_path):
    config, weights = parts
    checkpoint = {
        "state_dict": {f"model.{name}": value for name, value in weights.items()} | {"model.extra": torch.ones(2)},
        "hyper_parameters": {"config": {"hidden_common_dim": 8}},
    }
    with pytest.raises(WeightsMismatchError) as caught:
        imported(tmp_path, {**config, "hidden_common_dim": 9}, checkpoint)
    details = caught.value.details
    assert "shape: tab_subnetwork.embedding_layer.1.weight is [8, 2], the model has [9, 2]" in details
    assert "unexpected: model.extra [2]" in details
    assert "hidden_common_dim is 9, in the checkpoint 8" in details
    assert not (tmp_path / "artifact").exists()


def test_hyperparameters_that_the_config_contradicts_are_warned_of(parts, tmp_path, caplog):
    config, weights = parts
    imported(tmp_path, config, {"state_dict": weights, "hyper_parameters": {"max_sen_len": 32, "hidden_common_dim": 8}})
    [told] = [line for line in caplog.messages if "other values than" in line]
    assert told.endswith("of the checkpoint: max_sen_len is 16, in the checkpoint 32")


def test_a_tokenizer_of_another_model(parts, tmp_path):
    config, weights = parts
    small = {**config, "text_encoder": {**ENCODER, "vocab_size": 20}}
    with pytest.raises(CorruptArtifactError, match="has 90 tokens, the encoder has 20"):
        imported(tmp_path, small, weights)


def test_a_table_of_an_unknown_form(parts, tmp_path):
    config, weights = parts
    (tmp_path / "tables.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"must end in \.json or \.pkl"):
        imported(tmp_path, {**config, "risk_table_map": str(tmp_path / "tables.yaml")}, weights)


def test_hyperparameters_that_are_objects(parts, tmp_path):
    config, weights = parts
    with pytest.raises(UnsafeArtifactError) as caught:
        imported(tmp_path, config, {"state_dict": weights, "hyper_parameters": {"args": argparse.Namespace(lr=1)}})
    assert "torch.load('last.ckpt', map_location='cpu', weights_only=False)['state_dict']" in caught.value.fix


def test_a_classifier_of_transformers_in_a_checkpoint(parts, tmp_path):
    config, _ = parts
    bert = {
        "model_class": "bert",
        **{key: config[key] for key in ("tokenizer", "text_encoder", "text_name", "max_sen_len")},
    }
    state = Bert.from_config({**bert, "text_encoder": ENCODER}).state_dict()
    of_transformers = {n.replace("bert.", "net.", 1): v for n, v in state.items() if n.startswith("bert.")}
    artifact = Artifact.load(imported(tmp_path, bert, {"state_dict": of_transformers}))
    assert artifact.weights.keys() == {name for name in state if name.startswith("bert.")}


def test_the_encoder_may_lie_with_the_tokenizer_and_the_data_are_checked(parts, tmp_path):
    config, weights = parts
    folder = tmp_path / "both"
    make_tokenizer("bert").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(ENCODER))
    (tmp_path / "rows.csv").write_text("chat,amount,channel\ngood,1,online\nbad,2,retail\n")
    config = {key: value for key, value in config.items() if key != "text_encoder"} | {"tokenizer": str(folder)}
    artifact = Artifact.load(imported(tmp_path, config, weights, data=tmp_path / "rows.csv"))
    assert len(artifact.check_rows.rows) == 2


def test_an_embedding_matrix(tmp_path):
    make_tokenizer("bert").save_pretrained(tmp_path / "words")
    np.save(tmp_path / "matrix.npy", np.ones((90, 6), np.float32))
    config = {
        "model_class": "text_cnn",
        "text_name": "chat",
        "text_processing_steps": ["tokenizer"],
        "hidden_common_dim": 4,
        "max_sen_len": 16,
        "kernel_size": [2],
        "num_layers": 1,
        "num_channels": [3],
    }
    weights = TextCnn.from_config({**config, "embedding_shape": [90, 6]}).state_dict()
    files = {"tokenizer": str(tmp_path / "words"), "embedding_mat": str(tmp_path / "matrix.npy")}
    artifact = imported(tmp_path, config | files, weights)
    assert Predictor.from_artifact(artifact).predict_proba({"chat": ["good"]}).shape == (1, 2)
    del files["embedding_mat"]
    (tmp_path / "again").mkdir()
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path / "again", config | files, weights)
    assert "with the key embedding_mat" in caught.value.fix


def test_all_files_that_are_not_there_are_listed(tmp_path):
    config = {"tokenizer": "gone", "primary_text_encoder": "gone", "impute_dict": "gone.json"}
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, config, {})
    keys = [line.partition(":")[0] for line in caught.value.details]
    assert keys == ["model_class", "tokenizer", "primary_text_encoder", "impute_dict"]


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_a_checkpoint_is_not_run(parts, tmp_path, capsys):
    config, weights = parts
    with pytest.raises(UnsafeArtifactError, match="refers to 'print'"):
        imported(tmp_path, config, {"state_dict": weights, "hyper_parameters": Evil()})
    assert capsys.readouterr().out == ""


def test_a_checkpoint_needs_a_config_and_weights(parts, tmp_path):
    config, _ = parts
    torch.save({}, tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match="config is missing"):
        import_model(tmp_path / "last.ckpt", tmp_path / "artifact")
    with pytest.raises(CorruptArtifactError):
        imported(tmp_path, config, {"epoch": 3})
    with pytest.raises(UsageError, match="text_column cannot be used"):
        imported(tmp_path, config, {}, text_column="chat")
