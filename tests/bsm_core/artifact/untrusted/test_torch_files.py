from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from support.artifacts import state_dict
from torch.torch_version import TorchVersion

from bsm_core.artifact.untrusted import torch_archive
from bsm_core.artifact.untrusted.torch_files import (
    load_torch,
    read_embedding,
    read_model_artifacts,
    read_weights,
)
from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def save(value, path):
    torch.save(value, path)
    return path


class Call:
    def __init__(self, function, *args):
        self._reduced = function, args

    def __reduce__(self):
        return self._reduced


# What torch.save wrote


def test_real_artifacts_come_back_plain(folder):
    saved = {
        "torch_version": TorchVersion("2.1.0"),
        "config": {"lr": np.float64(0.5), "n": np.int64(3), "ok": np.bool_(True)},
        "class_weights": np.array([1.0, 2.0], dtype="f4"),
        "ordered": collections.OrderedDict(a=1),
        "default": collections.defaultdict(list, a=[1]),
        "names": {"x", "y"},
        "none": np.zeros(0),
    }
    back = load_torch(save(saved, folder / "model_artifacts.pth"))
    assert type(back["torch_version"]) is str
    assert back["torch_version"] == "2.1.0"
    assert back["config"] == {"lr": 0.5, "n": 3, "ok": True}
    assert [type(value) for value in back["config"].values()] == [float, int, bool]
    np.testing.assert_array_equal(back["class_weights"], saved["class_weights"])
    assert back["default"] == {"a": [1]}
    assert back["names"] == {"x", "y"}
    assert back["none"].shape == (0,)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy_are_known(folder, core):
    data = io.BytesIO()
    torch.save({"a": np.arange(3.0)}, data)
    target = folder / "model_artifacts.pth"
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core))
    np.testing.assert_array_equal(load_torch(target)["a"], [0, 1, 2])


def test_the_format_before_zip_files_is_read_too(folder):
    torch.save(state_dict(), folder / "model.pth", _use_new_zipfile_serialization=False)
    assert read_weights(folder).keys() == state_dict().keys()


def test_the_allow_list_is_gone_afterwards(folder):
    before = set(torch.serialization.get_safe_globals())
    load_torch(save({"a": np.float64(1)}, folder / "model_artifacts.pth"))
    assert set(torch.serialization.get_safe_globals()) == before


# What is refused


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Call(exec, "raise SystemExit"), "exec"),
        (Call(print, "x"), "print"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (torch.nn.Linear, "torch.nn.modules.linear.Linear"),
        (np.float32, "numpy.float32"),
        (Call(__import__("os").system, "true"), "system"),
    ],
    ids=["exec", "print", "module", "class", "numpy", "system"],
)
@pytest.mark.parametrize("new_format", [True, False])
def test_any_other_global_is_refused_by_name(folder, value, name, new_format):
    torch.save({"a": value}, folder / "model.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(UnsafeArtifactError) as caught:
        read_weights(folder)
    assert name in caught.value.what
    assert "model.pth" in str(caught.value)
    assert "model.safetensors" in caught.value.fix
    assert "cannot read such a file either" in caught.value.fix  # `bsm pack` is no way around
    assert "weights_only" not in str(caught.value)  # torch's own advice is to load it unsafely


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, "a"], dtype=object),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        Call(np.float64(1).__reduce__()[0], np.dtype("O"), b"12345678"),
    ],
    ids=["object", "datetime", "fields", "object scalar"],
)
def test_numpy_values_that_are_not_plain_are_refused(folder, value):
    with pytest.raises(UnsafeArtifactError, match=r"numpy\.dtype"):
        load_torch(save({"a": value}, folder / "model_artifacts.pth"))


@pytest.mark.parametrize(
    "code", [b"carray\n\n", b"c\narray\n", b"c\n\n", b"cbsm_core.artifact.safe_pickle\nPickledArray\n"]
)
def test_the_classes_behind_the_stand_ins_cannot_be_named(folder, code):
    data = io.BytesIO()
    torch.save({}, data)
    target = folder / "model_artifacts.pth"
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"\x80\x02" + code + b"." if name.endswith("data.pkl") else old.read(name))
    with pytest.raises((UnsafeArtifactError, CorruptArtifactError)):
        load_torch(target)


def test_sparse_tensors_are_refused(folder):
    save({"head.weight": torch.eye(3).to_sparse()}, folder / "model.pth")
    with pytest.raises(UnsafeArtifactError, match=r"'head\.weight' is a sparse"):
        read_weights(folder)
    with pytest.raises(UnsafeArtifactError, match="embedding_mat"):
        read_embedding({"embedding_mat": torch.eye(3).to_sparse()})


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_nested_tensors_are_refused(folder):
    save({"w": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])}, folder / "model.pth")
    with pytest.raises(UnsafeArtifactError, match="'w' is a sparse or nested tensor"):
        read_weights(folder)


def test_tensors_without_data_are_corrupt(folder):
    save({"head.weight": torch.empty(3, device="meta")}, folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match="without data"):
        read_weights(folder)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("data", [b"", b"rubbish", b"PK\x03\x04" + b"\0" * 100, pickle.dumps({"a": 1}, 2)])
def test_rubbish_is_corrupt_and_names_the_file(folder, name, data):
    (folder / name).write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=f"{name} cannot be read"):
        read_weights(folder)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_file_cut_short_is_corrupt(folder, name):
    path = folder / name
    if name == "model.pth":
        save(state_dict(), path)
    else:
        safetensors.torch.save_file(state_dict(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptArtifactError, match=name):
        read_weights(folder)


def test_members_whose_names_differ_in_case_alone_are_corrupt(folder):
    save({"a": torch.ones(2)}, folder / "model.pth")
    with zipfile.ZipFile(folder / "model.pth", "a") as archive:
        archive.writestr("model/DATA.pkl", b"N.")
    with pytest.raises(CorruptArtifactError, match="two members of one name"):
        read_weights(folder)


# Weights


def test_safetensors_are_read_in_preference(folder):
    (folder / "model.pth").write_bytes(b"rubbish")
    safetensors.torch.save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    assert read_weights(folder)["a"].tolist() == [1, 1]


def test_a_lightning_checkpoint_gives_its_state_dict(folder):
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5",
        "state_dict": state_dict(),
        "hyper_parameters": {"a": 1},
    }
    save(checkpoint, folder / "model.pth")
    assert read_weights(folder).keys() == state_dict().keys()


def test_parameters_come_as_tensors_without_gradient(folder):
    save({"w": torch.nn.Parameter(torch.ones(2))}, folder / "model.pth")
    weight = read_weights(folder)["w"]
    assert type(weight) is torch.Tensor
    assert not weight.requires_grad


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3, "net": {"a": torch.ones(1)}}, {"state_dict": {"a": 1}}, 3])
def test_something_else_than_weights_is_corrupt(folder, value):
    save(value, folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match="neither a state dict nor a Lightning checkpoint"):
        read_weights(folder)


def test_prefixes_are_stripped_from_files(folder):
    save({f"_orig_mod.module.{key}": value for key, value in state_dict().items()}, folder / "model.pth")
    assert read_weights(folder).keys() == state_dict().keys()


def test_weights_that_clash_without_their_prefix_are_corrupt(folder):
    save({"a": torch.ones(1), "module.a": torch.zeros(1)}, folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match="twice"):
        read_weights(folder)


# The rest of model_artifacts.pth


@pytest.mark.parametrize(
    "matrix",
    [
        torch.ones(3, 2),
        np.ones((3, 2), dtype="f4"),
        np.ones((3, 2), dtype=">f8"),
        np.asfortranarray(np.ones((3, 2))),
        torch.nn.Parameter(torch.ones(3, 2)),
    ],
    ids=["tensor", "numpy", "big endian", "fortran", "parameter"],
)
def test_an_embedding_may_be_numpy_or_tensor(folder, matrix):
    save({"embedding_mat": matrix}, folder / "model_artifacts.pth")
    embedding = read_embedding(read_model_artifacts(folder))
    assert torch.equal(embedding.float(), torch.ones(3, 2))
    assert not embedding.requires_grad


def test_there_may_be_no_embedding():
    assert read_embedding({"embedding_mat": None}) is None
    assert read_embedding({}) is None


@pytest.mark.parametrize("matrix", [torch.ones(3), [[1.0]], np.array([["a"]]), "x"])
def test_an_embedding_that_is_no_matrix_is_corrupt(folder, matrix):
    save({"embedding_mat": matrix}, folder / "model_artifacts.pth")
    with pytest.raises(CorruptArtifactError, match="embedding_mat"):
        read_embedding(read_model_artifacts(folder))


@pytest.mark.parametrize("value", [[1], {"config": [1]}, {"config": "x"}, torch.ones(1)])
def test_model_artifacts_must_be_a_dict_with_a_config(folder, value):
    save(value, folder / "model_artifacts.pth")
    with pytest.raises(CorruptArtifactError, match=r"model_artifacts\.pth"):
        read_model_artifacts(folder)


def test_weights_in_two_files_must_agree(tmp_path, caplog):
    weights = {"a": torch.rand(3), "b": torch.tensor([float("nan"), 1.0])}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "model.pth")
    assert read_weights(tmp_path).keys() == weights.keys()
    for other in ({**weights, "b": torch.zeros(2)}, {"a": weights["a"]}, {**weights, "b": torch.zeros(3)}):
        torch.save(other, tmp_path / "model.pth")
        with pytest.raises(CorruptArtifactError, match=r"model\.safetensors and model\.pth hold different") as caught:
            read_weights(tmp_path)
        assert caught.value.details == ("the first difference: b",)
    assert not caplog.messages
    (tmp_path / "model.pth").write_bytes(b"cos\nsystem\n.")
    assert read_weights(tmp_path).keys() == weights.keys()
    assert "cannot be compared" in caplog.text


@pytest.mark.parametrize("zip64", [False, True])
def test_a_large_list_of_members_is_refused_before_it_is_read(folder, monkeypatch, zip64):
    torch.save(state_dict(), folder / "model.pth")
    with zipfile.ZipFile(folder / "model.pth", "a") as archive:
        for i in range(70_000 if zip64 else 60_000):
            archive.writestr(f"{i:0300}", b"")
    monkeypatch.setattr(torch_archive.zipfile, "ZipFile", None)
    with pytest.raises(CorruptArtifactError, match=r"the list of its members takes more than 16 MiB"):
        read_weights(folder)


def test_tied_weights_are_once_in_safetensors(tmp_path):
    shared = torch.rand(3)
    safetensors.torch.save_file({"a": shared}, tmp_path / "model.safetensors")
    torch.save({"a": shared, "b": shared}, tmp_path / "model.pth")
    assert read_weights(tmp_path).keys() == {"a"}
    torch.save({"a": shared, "b": shared.clone()}, tmp_path / "model.pth")
    with pytest.raises(CorruptArtifactError, match="different"):
        read_weights(tmp_path)


# Forms that are named


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_named(folder):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match=r"model\.pth is a TorchScript program") as caught:
        read_weights(folder)
    assert "torch.jit.load('model.pth', 'cpu').state_dict()" in caught.value.fix


def test_an_exported_program_is_named(folder):
    members = ("archive_format", "archive_version", "models/model.json", ".data/version")
    with zipfile.ZipFile(folder / "model.pth", "w") as archive:
        for name in members:
            archive.writestr(f"model/{name}", "x")
    with pytest.raises(CorruptArtifactError, match=r"is a program of torch\.export"):
        read_weights(folder)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_pickled_whole_is_named(folder, wrapped):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    save(torch.nn.DataParallel(model) if wrapped else model, folder / "model.pth")
    with pytest.raises(UnsafeArtifactError, match="a model that was pickled whole") as caught:
        read_weights(folder)
    assert "torch.save(model.state_dict(), 'model.pth')" in caught.value.fix


def test_a_checkpoint_with_an_object_beside_the_weights_says_how_to_take_them_out(folder):
    save({"state_dict": state_dict(), "hyper_parameters": argparse.Namespace(lr=1)}, folder / "model.pth")
    with pytest.raises(UnsafeArtifactError, match=r"argparse\.Namespace") as caught:
        read_weights(folder)
    assert "pickled whole" not in caught.value.what
    assert "torch.save(checkpoint['state_dict'], 'model.pth')" in caught.value.fix


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_pointer_of_git_lfs_is_named(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 466062\n")
    with pytest.raises(CorruptArtifactError, match="pointers of Git LFS") as caught:
        read_weights(folder)
    assert caught.value.details == (name,)
