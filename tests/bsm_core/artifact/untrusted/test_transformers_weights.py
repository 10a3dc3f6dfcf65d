from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from bsm_core.artifact.untrusted.transformers_weights import NAMES, read_transformers_weights
from bsm_core.errors import CorruptArtifactError, MissingArtifactFilesError

ONE, OTHER = {"a": torch.ones(2)}, {"b": torch.zeros(3)}


def write(folder, index, **shards):
    (folder / NAMES[1]).write_text(json.dumps({"weight_map": index}))
    for name, weights in shards.items():
        safetensors.torch.save_file(weights, folder / f"{name}.safetensors")


def test_shards_are_read_as_one(tmp_path):
    write(tmp_path, {"a": "x.safetensors", "b": "y.safetensors"}, x=ONE, y=OTHER)
    found = read_transformers_weights(tmp_path)
    assert found.keys() == {"a", "b"}
    assert torch.equal(found["b"], OTHER["b"])


def test_one_file_comes_before_shards_and_safe_files_before_pickled_ones(tmp_path):
    torch.save(OTHER, tmp_path / NAMES[2])
    assert read_transformers_weights(tmp_path).keys() == {"b"}
    write(tmp_path, {"a": "x.safetensors"}, x=ONE)
    assert read_transformers_weights(tmp_path).keys() == {"a"}
    safetensors.torch.save_file(OTHER, tmp_path / NAMES[0])
    assert read_transformers_weights(tmp_path).keys() == {"b"}


def test_shards_that_are_missing_are_listed(tmp_path):
    write(tmp_path, {"a": "x.safetensors", "b": "y.safetensors", "c": "z.safetensors"}, x=ONE)
    with pytest.raises(MissingArtifactFilesError) as caught:
        read_transformers_weights(tmp_path)
    assert caught.value.details == ("y.safetensors", "z.safetensors")


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"a": "../x.safetensors"}, "files that are not shards beside it"),
        ({"a": "/x.safetensors"}, "files that are not shards beside it"),
        ({"a": "x" * 256}, "files that are not shards beside it"),
        ({"a": "\ud800.safetensors"}, "files that are not shards beside it"),
        ({str(i): f"{i}.safetensors" for i in range(1_001)}, "files that are not shards beside it"),
        ({"a": "x.safetensors", "b": "y.safetensors"}, "shards that hold 'a' twice"),
        ({"a": "x.safetensors", "gone": "x.safetensors"}, "1 weights that no shard holds, such as 'gone'"),
        (["x.safetensors"], "has no 'weight_map'"),
    ],
)
def test_indexes_that_cannot_be_right(tmp_path, index, told):
    write(tmp_path, index, x=ONE, y=ONE)
    with pytest.raises(CorruptArtifactError, match=told):
        read_transformers_weights(tmp_path)
