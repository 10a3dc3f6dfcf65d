from __future__ import annotations

import json
import os
import shutil

import huggingface_hub
import pytest
from support.artifacts import CONFIG, write_artifact, write_tokenizer

from bsm_core.artifact import Artifact
from bsm_core.artifact.config import ArtifactConfig
from bsm_core.artifact.pretrained_files import (
    ENCODER,
    TOKENIZER,
    downloading,
    find_asset,
    find_inside,
    load_encoder_config,
)
from bsm_core.errors import ConfigError, CorruptArtifactError, TokenizerError


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """An empty cache and a hub that answers only for what a test puts there; downloads are allowed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    repositories: dict[str, object] = {}

    def snapshot_download(name, *, allow_patterns):
        assert allow_patterns, "only the files that are needed"
        if name not in repositories:
            raise huggingface_hub.errors.LocalEntryNotFoundError(f"cannot reach the hub for {name}\nmore advice")
        return str(repositories[name])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    return repositories


def cache(tmp_path, name):
    """A tokenizer in the local Hugging Face cache."""
    home = tmp_path / "hub-cache" / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    return write_tokenizer(home / "snapshots" / "abc")


@pytest.fixture
def artifact(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "a/" * 5000, "\ud800", "é" * 200, "\x1b[2J"])
def test_a_name_that_no_folder_has_is_refused(artifact, name):
    with pytest.raises(ConfigError, match="tokenizer") as caught:
        found(artifact, tokenizer=name)
    assert str(caught.value).replace("\n", "").isprintable()


def found(artifact, prefix="", **config):
    return find_asset(TOKENIZER, artifact, config, prefix).folder


def test_the_artifacts_own_folder_comes_first(artifact, tmp_path):
    other = write_tokenizer(tmp_path / "other")
    own = write_tokenizer(artifact / "tokenizer")
    assert found(artifact, tokenizer=str(other)) == own


@pytest.mark.parametrize("name", ["tok", "./tok", "sub/../tok"])
def test_then_a_folder_of_the_artifact(artifact, name):
    (artifact / "sub").mkdir()
    tok = write_tokenizer(artifact / "tok")
    assert found(artifact, tokenizer=name).resolve() == tok


def test_then_an_absolute_folder(artifact, tmp_path):
    other = write_tokenizer(tmp_path / "other")
    assert found(artifact, tokenizer=str(other)) == other


def test_then_the_local_cache(artifact, tmp_path):
    cached = cache(tmp_path, "acme/tiny")
    assert found(artifact, tokenizer="acme/tiny") == cached


def test_last_the_hub(artifact, tmp_path, hub):
    hub["acme/tiny"] = write_tokenizer(tmp_path / "downloaded")
    assert found(artifact, tokenizer="acme/tiny") == hub["acme/tiny"]


@pytest.mark.parametrize("value", [None, "", "1", "true"])
def test_the_hub_is_not_asked_unless_the_user_allows_it(artifact, tmp_path, hub, monkeypatch, value):
    hub["acme/tiny"] = write_tokenizer(tmp_path / "downloaded")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    if value is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(TokenizerError, match="not asked: downloads are not allowed") as caught:
        found(artifact, tokenizer="acme/tiny")
    assert "--allow-downloads" in caught.value.fix
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    with downloading(True):
        assert found(artifact, tokenizer="acme/tiny") == hub["acme/tiny"]
    assert os.environ["HF_HUB_OFFLINE"] == ""


def test_the_hub_is_not_asked_for_what_is_here(artifact, hub):
    write_tokenizer(artifact / "tokenizer")
    hub.clear()
    assert found(artifact, tokenizer="acme/tiny") == artifact / "tokenizer"


@pytest.mark.parametrize("name", ["../other", "tok/../../other"])
def test_a_relative_name_does_not_climb_out_of_the_artifact(artifact, tmp_path, name):
    write_tokenizer(tmp_path / "other")
    (artifact / "tok").mkdir()
    with pytest.raises(TokenizerError):
        found(artifact, tokenizer=name)


def test_a_link_does_not_climb_out_either(artifact, tmp_path):
    (artifact / "tok").symlink_to(write_tokenizer(tmp_path / "other"))
    with pytest.raises(TokenizerError):
        found(artifact, tokenizer="tok")


def test_when_all_fail_the_error_says_what_was_tried_and_what_to_do(artifact):
    with pytest.raises(TokenizerError) as caught:
        found(artifact, tokenizer="acme/tiny")
    assert caught.value.details == (
        "tried tokenizer/ in the artifact",
        "tried tokenizer = 'acme/tiny' as a folder of the artifact",
        "tried tokenizer = 'acme/tiny' in the local Hugging Face cache",
        "tried tokenizer = 'acme/tiny' on the Hugging Face hub"
        " (LocalEntryNotFoundError: cannot reach the hub for acme/tiny)",
    )
    assert "bsm pack" in caught.value.fix
    assert isinstance(caught.value, OSError)


def test_without_a_name_the_hub_is_not_asked(artifact):
    with pytest.raises(TokenizerError) as caught:
        found(artifact)
    assert caught.value.details == ("tried tokenizer/ in the artifact",)


def test_an_absolute_folder_is_no_name_for_the_hub(artifact):
    with pytest.raises(TokenizerError) as caught:
        found(artifact, tokenizer="/no/such/folder")
    assert caught.value.details[1:] == ("tried tokenizer = '/no/such/folder' as an absolute folder",)


def test_a_repository_without_a_tokenizer_is_none(artifact, tmp_path, hub):
    hub["acme/tiny"] = tmp_path
    with pytest.raises(TokenizerError):
        found(artifact, tokenizer="acme/tiny")


def test_a_tokenizer_that_is_no_text_is_an_error_of_the_config(artifact):
    with pytest.raises(ConfigError, match="primary_tokenizer"):
        found(artifact, "primary_", primary_tokenizer=3)


# Two text fields


def test_a_fields_own_folder_and_key_come_before_the_common_ones(artifact):
    common = write_tokenizer(artifact / "tokenizer")
    assert found(artifact, "primary_") == common
    named = write_tokenizer(artifact / "named")
    assert found(artifact, "primary_", primary_tokenizer="named") == named
    assert found(artifact, "secondary_", primary_tokenizer="named") == common
    own = write_tokenizer(artifact / "primary_tokenizer")
    assert found(artifact, "primary_", primary_tokenizer="named") == own
    assert found(artifact, "", primary_tokenizer="named") == common


def test_the_common_tokenizer_is_used_with_a_warning_where_a_fields_own_is_not_here(artifact, caplog):
    common = write_tokenizer(artifact / "tokenizer")
    assert found(artifact, "primary_", primary_tokenizer="acme/tiny", tokenizer="acme/tiny") == common
    assert not caplog.records
    assert found(artifact, "primary_", primary_tokenizer="acme/tiny") == common
    assert "primary_tokenizer 'acme/tiny' was not found offline" in caplog.text


def test_the_hub_is_asked_for_the_fields_own_name(artifact, tmp_path, hub):
    hub["acme/one"], hub["acme/two"] = write_tokenizer(tmp_path / "one"), write_tokenizer(tmp_path / "two")
    assert found(artifact, "primary_", primary_tokenizer="acme/one", tokenizer="acme/two") == hub["acme/one"]
    assert found(artifact, "secondary_", primary_tokenizer="acme/one", tokenizer="acme/two") == hub["acme/two"]


# The encoder's config, and looking inside alone


def test_the_encoder_config_is_looked_for_in_the_same_places(artifact, tmp_path, hub):
    hub["acme/tiny"] = tmp_path / "downloaded"
    hub["acme/tiny"].mkdir()
    (hub["acme/tiny"] / "config.json").write_text("{}")
    assert find_asset(ENCODER, artifact, {"tokenizer": "acme/tiny"}).folder == hub["acme/tiny"]
    (artifact / "tok").mkdir()
    (artifact / "tok" / "config.json").write_text("{}")
    assert find_asset(ENCODER, artifact, {"tokenizer": "tok"}).folder == artifact / "tok"


def test_looking_inside_passes_over_the_rest(artifact, tmp_path):
    cache(tmp_path, "acme/tiny")
    outside = write_tokenizer(tmp_path / "other")
    assert find_inside(TOKENIZER, artifact, {"tokenizer": "acme/tiny"}) is None
    assert find_inside(TOKENIZER, artifact, {"tokenizer": str(outside)}) is None
    tok = write_tokenizer(artifact / "tok")
    assert find_inside(TOKENIZER, artifact, {"tokenizer": "tok"}).folder == tok


# Building it


def test_an_artifact_gives_the_tokenizer_of_a_field(tmp_path):
    artifact = Artifact.load(write_artifact(tmp_path))
    [field] = artifact.config.text_fields
    tokenizer = artifact.tokenizer(field)
    assert tokenizer.is_fast
    ids = tokenizer("hello world")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]


def test_fields_of_a_trimodal_artifact_get_their_own(tmp_path):
    config = CONFIG | {"text_name": None, "primary_text_name": "chat", "secondary_text_name": "events"}
    write_artifact(tmp_path, config=config)
    write_tokenizer(tmp_path / "secondary_tokenizer", ["zzz yyy xxx"])
    artifact = Artifact.load(tmp_path)
    primary, secondary = (artifact.tokenizer(field) for field in artifact.config.text_fields)
    assert "h" in primary.get_vocab()
    assert "h" not in secondary.get_vocab()


def test_a_broken_tokenizer_is_not_passed_over_for_another(tmp_path):
    write_artifact(tmp_path / "model")
    (tmp_path / "model" / "tokenizer" / "tokenizer.json").write_text("{")
    shutil.copytree(write_tokenizer(tmp_path / "good"), tmp_path / "model" / "good")
    artifact = Artifact.load(tmp_path / "model")
    with pytest.raises(CorruptArtifactError):
        artifact.tokenizer(ArtifactConfig(model_class="m", text_name="t").text_fields[0])


def test_what_can_make_transformers_fetch_code_is_left_out(tmp_path):
    inner = {"attn_implementation": "org/kernel", "hidden_size": 8}
    values = {
        "model_type": "bert",
        "auto_map": {"AutoModel": "x.py--X"},
        "_attn_implementation": "a/b",
        "parts": [inner],
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_encoder_config(tmp_path) == {"model_type": "bert", "parts": [{"hidden_size": 8}]}
