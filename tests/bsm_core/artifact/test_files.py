from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import pytest
from support.artifacts import write_artifact

from bsm_core.artifact import Artifact, describe, files
from bsm_core.artifact.files import FileHashes, read_json_object, require_artifact
from bsm_core.artifact.untrusted.foreign_forms import foreign_weights
from bsm_core.errors import CorruptArtifactError, MissingArtifactFilesError
from bsm_core.plugins.registry import Registry


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.json", "b.pth", "sub/c.json", ".hidden"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were hashed."""
    names, sha256 = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: names.append(path.name) or sha256(path))
    return names


def test_a_file_is_hashed_when_it_is_asked_for_and_once(folder, hashed):
    hashes = FileHashes(folder)
    assert list(hashes) == ["a.json", "b.pth", "sub/c.json"]
    assert len(hashes) == 3
    assert "sub/c.json" in hashes
    assert hashed == []
    assert hashes["b.pth"] == hashes["b.pth"] == hashlib.sha256(b"b.pth").hexdigest()
    assert hashed == ["b.pth"]
    assert dict(hashes) == dict(hashes)
    assert sorted(hashed) == ["a.json", "b.pth", "c.json"]


@pytest.mark.parametrize("name", ["none", ".hidden", "../x", "sub", 3])
def test_only_files_of_the_folder_have_a_hash(folder, hashed, name):
    hashes = FileHashes(folder)
    assert name not in hashes
    with pytest.raises(KeyError):
        hashes[name]
    assert hashed == []


def test_hashes_that_are_known_travel_along(folder, hashed):
    hashes = FileHashes(folder)
    known = hashes["a.json"]
    copied = pickle.loads(pickle.dumps(hashes))
    (folder / "a.json").write_text("changed")
    assert copied["a.json"] == known
    assert hashed == ["a.json"]


@pytest.mark.parametrize("entries", [1, 300_000], ids=["small", "large"])
def test_json_of_every_size_holds_what_was_written(tmp_path, entries):
    merges = [[f"\u2581wort\U0001f600{i}", f"x{i}", i / 7] for i in range(entries)]
    (tmp_path / "t.json").write_text(json.dumps({"merges": merges}, indent=2, ensure_ascii=False), "utf-8")
    assert read_json_object(tmp_path / "t.json") == {"merges": merges}


@pytest.mark.parametrize("content", [b'{"a":[' + b"[]," * 1_200_000 + b"0]}", b'{"a":[' + b"0," * 3_200_001 + b"0]}"])
def test_json_of_very_many_values_is_refused_before_it_is_parsed(tmp_path, monkeypatch, content):
    monkeypatch.setattr(json, "loads", None)
    monkeypatch.setattr(files, "from_json", None)
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=r"t\.json cannot be read as JSON: it holds too many values"):
        read_json_object(tmp_path / "t.json")


# Weights in other forms


@pytest.mark.parametrize(
    ("names", "what", "command"),
    [
        (
            ["ckpt/latest", "ckpt/step1/zero_pp_rank_0_mp_rank_00_optim_states.pt"],
            "DeepSpeed",
            "convert('ckpt', ",
        ),
        (["model.pth/checkpoint/mp_rank_00_model_states.pt"], "DeepSpeed", "convert('model.pth', 'weights.pth')"),
        (["shards/__0_0.distcp", "shards/.metadata"], "FSDP", "format_utils dcp_to_torch shards weights.pth"),
        (["model.pth/__0_0.distcp", "model.pth/meta.pt"], "FSDP", "dcp_to_torch model.pth weights.pth"),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], "sharded", "./*-of-*.safetensors"),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"], "sharded", "./*-of-*.bin"),
        (["adapter_model.safetensors"], "PEFT", "merge_and_unload()"),
        (["pytorch_model.bin"], "another name", "mv pytorch_model.bin model.pth"),
        (["checkpoints/best.ckpt", "optimizer.pt"], "another name", "mv checkpoints/best.ckpt model.pth"),
        (["encoder.safetensors"], "another name", "mv encoder.safetensors model.safetensors"),
        (["tf_model.h5"], "another framework", "PyTorch"),
    ],
)
def test_weights_in_another_form_are_named_with_the_way_to_convert_them(tmp_path, names, what, command):
    write_artifact(tmp_path)
    (tmp_path / "model.pth").unlink()
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MissingArtifactFilesError) as caught:
        require_artifact(tmp_path)
    assert caught.value.details[0] == "model.pth or model.safetensors"
    assert what in caught.value.details[1]
    assert command in caught.value.fix


def test_shards_beside_the_weights_do_not_matter(tmp_path):
    write_artifact(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    require_artifact(tmp_path)


@pytest.mark.parametrize("read", ["hyperparameters.json", "model_artifacts.pth", "model.pth", "impute_dict.pkl"])
def test_every_pointer_of_git_lfs_is_named_at_once(tmp_path, read):
    write_artifact(tmp_path)
    pointers = [read, "tokenizer/tokenizer.json"]
    for name in pointers:
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 466062\n")
    with pytest.raises(CorruptArtifactError, match=r"2 file\(s\) are pointers of Git LFS") as caught:
        (lambda artifact: (artifact.weights, artifact.impute))(Artifact.load(tmp_path))
    assert list(caught.value.details) == pointers
    assert "git lfs pull" in caught.value.fix


HOSTILE = ["a$(touch pwned)b.ckpt", "x');__import__('os').system('id');('/model-1-of-2.safetensors", "`id`/a.distcp"]
HOSTILE += [
    "a;id/pytorch_model-1-of-2.bin",
    "a b/c/mp_rank_00_model_states.pt",
    "-f.ckpt",
    "a&b.pt",
    "a\nb.safetensors",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_a_shell_could_run_is_in_no_command(name):
    found = foreign_weights([name])
    assert found
    line, fix = found
    assert name in line
    assert name not in fix
    assert not re.search(r"touch pwned|__import__|`id`|;id|a b/|-f\.ckpt|a&b|\n", fix)
    assert re.search("PATH|FOLDER|ABOVE", fix)


@pytest.mark.parametrize(
    "name",
    ["hyperparameters.json", "model_artifacts.pth", "risk_table_map.json", "impute_dict.pkl", "model.pth"],
)
def test_a_file_that_may_not_be_read_is_not_said_to_be_damaged(tmp_path, monkeypatch, name):
    folder = write_artifact(tmp_path)
    (folder / name).touch()
    if name.endswith(".pkl"):
        (folder / name).with_suffix(".json").unlink(missing_ok=True)
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    problems = describe(folder, Registry([])).problems
    said = [problem for problem in problems if f"{name} cannot be read: Permission denied" in problem]
    assert said
    assert all("chmod" in problem and "copy the artifact" not in problem for problem in said)
