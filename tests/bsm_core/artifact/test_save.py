from __future__ import annotations

import json
import math
import pickle
import tarfile

import huggingface_hub
import numpy as np
import pytest
import torch
from support.artifacts import CONFIG, ENCODER_CONFIG, IMPUTE, RISK_TABLES, state_dict, write_artifact, write_tokenizer

from bsm_core.artifact import Artifact, pack, save_artifact, unpacked
from bsm_core.artifact import save as save_module
from bsm_core.artifact.files import exported
from bsm_core.artifact.provenance_file import write_provenance
from bsm_core.artifact.untrusted.tokenizer_folder import load_tokenizer
from bsm_core.errors import (
    ArtifactError,
    ConfigError,
    CorruptArtifactError,
    TokenizerError,
    UnsafeArtifactError,
    UsageError,
)

PICKLED = {"model.pth", "risk_table_map.pkl", "impute_dict.pkl"}
SAFE = {"model.safetensors", "risk_table_map.json", "impute_dict.json"}
ALWAYS = {"hyperparameters.json", "model_artifacts.pth"}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    def offline(name, **_):
        raise huggingface_hub.errors.OfflineModeIsEnabled(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)


def names(folder):
    return {path.name for path in folder.iterdir()}


def save(folder, **changes):
    arguments = {"config": CONFIG, "state_dict": state_dict(), "risk_tables": RISK_TABLES, "impute": IMPUTE}
    return save_artifact(folder, **(arguments | changes))


def same(one, other):
    assert one.config == other.config
    assert one.risk_tables == other.risk_tables
    assert one.impute == other.impute
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(value, other.weights[key]) for key, value in one.weights.items())


# save_artifact


def test_what_is_saved_loads(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tok"))
    save(
        tmp_path / "model",
        tokenizers={"": tokenizer},
        encoder_configs={"": ENCODER_CONFIG},
        embedding_mat=np.ones((3, 2)),
        vocab={"a": 0},
    )
    artifact = Artifact.load(tmp_path / "model")
    assert artifact.weights.keys() == state_dict().keys()
    assert (artifact.risk_tables, artifact.impute) == (RISK_TABLES, IMPUTE)
    assert artifact.embedding_mat.tolist() == [[1, 1]] * 3
    assert artifact.vocab == {"a": 0}
    assert artifact.versions["torch_version"] == str(torch.__version__)
    assert artifact.model_config(["text_encoder"])["text_encoder"] == ENCODER_CONFIG
    [field] = artifact.config.text_fields
    assert artifact.tokenizer(field)("hello")["input_ids"] == tokenizer("hello")["input_ids"]


def test_each_text_field_may_have_a_tokenizer_and_an_encoder_of_its_own(tmp_path):
    tokenizers = {
        prefix: load_tokenizer(write_tokenizer(tmp_path / prefix, [words]))
        for prefix, words in (("primary_", "hello world"), ("", "good morning"))
    }
    config = {key: value for key, value in CONFIG.items() if key != "text_name"}
    save(
        tmp_path / "model",
        config=config
        | {"primary_text_name": "a", "secondary_text_name": "b", "primary_tokenizer": "primary_tokenizer"},
        tokenizers=tokenizers,
        encoder_configs={"secondary_": ENCODER_CONFIG, "primary_": {**ENCODER_CONFIG, "hidden_size": 4}},
    )
    artifact = Artifact.load(tmp_path / "model")
    primary, secondary = artifact.config.text_fields
    assert artifact.tokenizer(primary).get_vocab() == tokenizers["primary_"].get_vocab()
    assert artifact.tokenizer(secondary).get_vocab() == tokenizers[""].get_vocab()
    wanted = artifact.model_config(["primary_text_encoder", "secondary_text_encoder"])
    assert [wanted[f"{prefix}_text_encoder"]["hidden_size"] for prefix in ("primary", "secondary")] == [4, 8]


def test_both_twins_are_written_and_agree(tmp_path):
    folder = save(tmp_path)
    assert names(folder) == PICKLED | SAFE | ALWAYS
    whole = Artifact.load(folder)
    for name in SAFE:
        (folder / name).unlink()
    same(whole, Artifact.load(folder))


def test_safe_only_leaves_the_pickles_out_old_ones_too(tmp_path):
    save(tmp_path)
    assert names(save(tmp_path, safe_only=True)) == SAFE | ALWAYS
    Artifact.load(tmp_path)


def test_encoders_that_an_earlier_artifact_exported_are_removed(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "text.onnx").write_bytes(b"of other weights")
    assert exported(tmp_path).keys() == {"text"}
    assert "onnx" not in names(save(tmp_path))


def test_what_is_saved_needs_no_allow_list(tmp_path):
    save(tmp_path, embedding_mat=np.ones((3, 2)), vocab={"a": 0})
    assert torch.load(tmp_path / "model_artifacts.pth", weights_only=True)["config"] == CONFIG


def test_tied_and_strided_weights_are_saved(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    save(tmp_path, state_dict={"a": tied, "b": tied, "c": tied.T})
    weights = Artifact.load(tmp_path).weights
    assert torch.equal(weights["b"], tied)
    assert torch.equal(weights["c"], tied.T)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"config": CONFIG | {"odd": object()}}, ConfigError, "JSON"),
        ({"config": CONFIG | {"odd": math.nan}}, ConfigError, "JSON"),
        ({"config": {"text_name": "x"}}, ConfigError, "model_class"),
        ({"encoder_configs": {"": {"odd": object()}}}, ConfigError, "encoder_config"),
        ({"impute": {"a": "x"}}, CorruptArtifactError, "a: 'x'"),
        ({"risk_tables": {"a": {}}}, CorruptArtifactError, "a: not a table"),
    ],
)
def test_nothing_is_written_that_would_not_load(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        save(tmp_path / "model", **changes)
    assert not (tmp_path / "model").exists()


# pack


def test_an_old_folder_becomes_complete_in_itself(tmp_path):
    source = write_artifact(tmp_path / "old")
    (source / "notes.txt").write_text("kept")
    packed = pack(source, tmp_path / "new")
    assert names(packed) == PICKLED | SAFE | ALWAYS | {"tokenizer", "text_encoder", "notes.txt"}
    same(Artifact.load(source), Artifact.load(packed))


def test_safe_only_reads_no_pickle_afterwards(tmp_path):
    packed = pack(write_artifact(tmp_path / "old"), tmp_path / "new", safe_only=True)
    assert names(packed) == SAFE | ALWAYS | {"tokenizer", "text_encoder"}
    same(Artifact.load(tmp_path / "old"), Artifact.load(packed))


@pytest.mark.parametrize(("prefer", "kept"), [("json", 2.0), ("pickle", 9.0)])
def test_one_of_two_twins_that_differ_can_be_preferred(tmp_path, prefer, kept):
    source = write_artifact(tmp_path / "old", impute={"age": 9.0})
    (source / "impute_dict.json").write_text('{"age": 2.0}')
    with pytest.raises(CorruptArtifactError, match="different values") as caught:
        pack(source, tmp_path / "new")
    assert "--prefer json|pickle" in str(caught.value)
    packed = pack(source, tmp_path / "new", prefer=prefer)
    assert json.loads((packed / "impute_dict.json").read_text()) == Artifact.load(packed).impute == {"age": kept}
    assert (packed / "impute_dict.pkl").exists() == (prefer == "pickle")


def test_a_folder_becomes_an_archive_with_its_checksum(tmp_path):
    source = write_artifact(tmp_path / "old")
    archive = pack(source, tmp_path / "deep" / "model.tar.gz")
    assert names(tmp_path / "deep") == {"model.tar.gz", "model.tar.gz.sha256"}
    with unpacked(tmp_path / "deep") as folder:
        same(Artifact.load(source), Artifact.load(folder))
    assert archive.read_bytes()[3:8] == bytes(5)  # gzip: no file name, no time
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_an_archive_becomes_a_folder(tmp_path):
    archive = pack(write_artifact(tmp_path / "old"), tmp_path / "model.tar.gz")
    same(Artifact.load(tmp_path / "old"), Artifact.load(pack(archive, tmp_path / "new")))


@pytest.mark.parametrize("around", ["", "model/"])
def test_packing_keeps_other_files_of_a_folder_and_of_an_archive(tmp_path, around):
    source = write_artifact(tmp_path / "old")
    others = {"README.md", "labels.csv", "assets/map.bin"}
    for name in (*others, "code/run.py", "logs/out.txt", ".hidden"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(source, around or ".")
    of_folder, of_archive = pack(source, tmp_path / "one"), pack(tmp_path / "model.tar.gz", tmp_path / "two")
    assert names(of_folder) - names(of_archive) == {"code", "logs"}
    assert all((of_archive / name).is_file() for name in others)
    assert (of_archive / "labels.csv").read_text() == "labels.csv"


@pytest.mark.parametrize("around", ["", "model/"])
def test_whatever_can_be_opened_can_be_packed(tmp_path, caplog, around):
    source = write_artifact(tmp_path / "old")
    (source / "extras").mkdir()
    (source / "extras/latest").symlink_to("/etc/passwd")
    (source / "extras/a\nb").touch()
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(source, around or ".")
    packed = pack(tmp_path / "model.tar.gz", tmp_path / "new")
    same(Artifact.load(source), Artifact.load(packed))
    assert "extras" not in names(packed)
    [message] = [message for message in caplog.messages if "left out" in message]
    assert "2 file(s) that bsm does not read" in message


def test_the_same_source_gives_the_same_bytes(tmp_path):
    source = write_artifact(tmp_path / "old")
    one = pack(source, tmp_path / "one.tar.gz")
    (source / "model.pth").touch()
    assert pack(source, tmp_path / "two.tar.gz").read_bytes() == one.read_bytes()
    assert pack(one, tmp_path / "three.tar.gz").read_bytes() == one.read_bytes()


def test_a_checksum_that_an_earlier_archive_left_is_renewed(tmp_path):
    target = tmp_path / "model.tar.gz"
    (tmp_path / "model.tar.gz.sha256").write_text("0" * 64)
    with unpacked(pack(write_artifact(tmp_path / "old", impute={}), target)) as folder:
        assert Artifact.load(folder).impute == {}


def test_what_is_done_before_publishing_sees_the_whole_and_is_packed(tmp_path):
    def sign(artifact):
        same(Artifact.load(source), artifact)
        (artifact.folder / "signed").touch()

    source = write_artifact(tmp_path / "old")
    with tarfile.open(pack(source, tmp_path / "new.tar.gz", before_publishing=sign)) as tar:
        assert "signed" in tar.getnames()
    assert "signed" not in names(source)
    with pytest.raises(ZeroDivisionError):
        pack(source, tmp_path / "none", before_publishing=lambda artifact: 1 / 0)
    assert names(tmp_path) == {"old", "new.tar.gz", "new.tar.gz.sha256"}


def test_keys_of_bins_become_text(tmp_path):
    tables = {"channel": {"bins": {1: 0.1, 2.0: 0.2, None: 0.3}, "default_bin": 0}}
    packed = pack(write_artifact(tmp_path / "old", risk_tables=tables), tmp_path / "new", safe_only=True)
    written = json.loads((packed / "risk_table_map.json").read_text())
    assert written["channel"]["bins"] == {"1": 0.1, "2.0": 0.2, "nan": 0.3}
    same(Artifact.load(tmp_path / "old"), Artifact.load(packed))


@pytest.mark.parametrize("prefix", ["", "primary_"])
def test_a_tokenizer_from_elsewhere_is_packed_in(tmp_path, prefix):
    elsewhere = write_tokenizer(tmp_path / "elsewhere")
    (elsewhere / "config.json").write_text(json.dumps(ENCODER_CONFIG))
    (elsewhere / "model.safetensors").write_bytes(b"weights of the encoder, not needed")
    config = CONFIG | {"tokenizer": None, f"{prefix}tokenizer": str(elsewhere)}
    if prefix:
        config |= {"text_name": None, "primary_text_name": "dialogue"}
    source = write_artifact(tmp_path / "old", config=config, with_tokenizer=False, encoder_config=None)
    packed = pack(source, tmp_path / "new")
    elsewhere.rename(tmp_path / "gone")
    artifact = Artifact.load(packed)
    [field] = artifact.config.text_fields
    assert artifact.tokenizer(field)("hello")["input_ids"]
    assert artifact.model_config([f"{prefix}text_encoder"])[f"{prefix}text_encoder"] == ENCODER_CONFIG
    assert not list(packed.rglob("*tokenizer/model.safetensors"))


def test_without_a_tokenizer_nothing_is_packed(tmp_path):
    source = write_artifact(tmp_path / "old", with_tokenizer=False, config=CONFIG | {"tokenizer": "acme/tiny"})
    with pytest.raises(TokenizerError):
        pack(source, tmp_path / "new")
    assert names(tmp_path) == {"old"}


def test_without_an_encoder_config_packing_warns(tmp_path, caplog):
    source = write_artifact(tmp_path / "old", encoder_config=None)
    pack(source, tmp_path / "new")
    assert "packed without an encoder config" in caplog.text
    assert {record.name for record in caplog.records} == {"bsm"}  # whose handler adds time and level


def test_a_model_class_that_wants_no_encoder_config_is_packed_without_a_word(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(save_module, "wanted_keys", lambda model_class, registry: frozenset({"text_name"}))
    pack(write_artifact(tmp_path / "old", encoder_config=None), tmp_path / "new")
    assert caplog.text == ""


def test_a_tabular_artifact_needs_no_tokenizer(tmp_path):
    config = {key: value for key, value in CONFIG.items() if key not in ("text_name", "tokenizer")}
    pack(write_artifact(tmp_path / "old", config=config, with_tokenizer=False), tmp_path / "new")
    assert Artifact.load(tmp_path / "new").config.text_fields == ()


@pytest.mark.parametrize("name", ["taken", "taken.tar.gz"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_destination_that_holds_something_is_left_alone(tmp_path, kind, name):
    source = write_artifact(tmp_path / "old")
    precious = tmp_path / name / "precious" if kind == "folder" else tmp_path / name
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        pack(source, tmp_path / name)
    assert precious.read_text() == "x"
    assert names(tmp_path) == {"old", name}


def test_a_folder_in_the_source_is_no_destination(tmp_path):
    source = write_artifact(tmp_path / "old")
    before = names(source)
    with pytest.raises(UsageError, match="lies in the source"):
        pack(source, source / "sub" / ".." / "new")
    assert names(source) == before


def test_an_empty_folder_is_a_destination(tmp_path):
    (tmp_path / "new").mkdir()
    Artifact.load(pack(write_artifact(tmp_path / "old"), tmp_path / "new"))


def test_an_artifact_that_would_run_code_is_not_packed(tmp_path):
    source = write_artifact(tmp_path / "old", weights=torch.nn.Linear(1, 1))
    with pytest.raises(UnsafeArtifactError):
        pack(source, tmp_path / "new")
    assert names(tmp_path) == {"old"}


def test_a_nested_archive_does_not_take_over(tmp_path):
    source = write_artifact(tmp_path / "old")
    packed = pack(source, tmp_path / "model.tar.gz")
    with unpacked(packed) as folder:
        (folder / "model.tar.gz").write_bytes(b"an archive inside an archive")
        with tarfile.open(tmp_path / "nested.tar.gz", "w:gz") as tar:
            tar.add(folder, arcname=".")
    assert "model.tar.gz" not in names(pack(tmp_path / "nested.tar.gz", tmp_path / "new"))


def test_the_pickled_twin_holds_plain_values(tmp_path):
    save(tmp_path, impute={"a": np.float32(0.5)})
    assert type(pickle.loads((tmp_path / "impute_dict.pkl").read_bytes())["a"]) is float


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    source = write_artifact(tmp_path / "old")
    copyfile = save_module.shutil.copyfile

    def copy(path, target):
        if path.name == "impute_dict.pkl":
            raise PermissionError(13, "Permission denied", str(path))
        copyfile(path, target)

    monkeypatch.setattr(save_module.shutil, "copyfile", copy)
    with pytest.raises(ArtifactError, match=r"impute_dict\.pkl cannot be read: Permission denied"):
        pack(source, tmp_path / "new")
    assert names(tmp_path) == {"old"}


def test_a_record_of_what_made_the_source_is_renewed(tmp_path):
    source = write_artifact(tmp_path / "old")
    write_provenance(source, [], {"torch": "1"})
    packed = Artifact.load(pack(source, tmp_path / "new"))
    assert packed.provenance.versions == {"torch": "1"}
    assert packed.provenance.files == {name: h for name, h in packed.hashes.items() if name != "provenance.json"}
