from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from bsm_core.artifact import files
from bsm_core.artifact.files import FileHashes, read_json_object
from bsm_core.errors import CorruptArtifactError


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
