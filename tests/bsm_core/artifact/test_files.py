from __future__ import annotations

import hashlib
import pickle

import pytest

from bsm_core.artifact import files
from bsm_core.artifact.files import FileHashes


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
