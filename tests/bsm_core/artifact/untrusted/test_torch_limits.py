"""Limits on files of weights, whose form is otherwise right."""

from __future__ import annotations

import json
import resource

import pytest
import safetensors.torch
import torch

from bsm_core.artifact.untrusted import torch_files
from bsm_core.artifact.untrusted.torch_files import load_torch, read_weights
from bsm_core.errors import CorruptArtifactError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_twins_are_compared_in_little_memory(folder, monkeypatch):
    monkeypatch.setattr(torch_files, "_SLICE", 4)
    weights = {"w": torch.arange(10, dtype=torch.uint8), "scalar": torch.tensor(1.0)}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    torch.save({**weights, "w": weights["w"].to(torch.int16)}, folder / "model.pth")
    assert read_weights(folder).keys() == weights.keys()
    torch.save({**weights, "w": weights["w"].flip(0)}, folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match="different weights"):
        read_weights(folder)


def test_memory_of_the_comparison_is_that_of_a_slice():
    one, other = torch.zeros(60_000_000, dtype=torch.uint8), torch.ones(60_000_000, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not torch_files._same(one, other)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({f"w{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}, "20,000 tensors"),
        ({"w": {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}}, "shape"),
        ({"w": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 0]}}, "dimensions"),
        ([], "header"),
    ],
)
def test_a_header_of_safetensors_has_limits(folder, header, reason):
    content = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(CorruptArtifactError, match=reason):
        load_torch(folder / "model.safetensors")


def test_a_long_header_of_safetensors_is_not_read(folder):
    (folder / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(CorruptArtifactError, match="1,099,511,627,776 bytes"):
        load_torch(folder / "model.safetensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["quantized", "complex"])
def test_weights_that_are_no_plain_numbers_are_refused(folder, kind):
    plain = torch.ones(2)
    value = torch.complex(plain, plain) if kind == "complex" else torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8)
    torch.save({"w": value}, folder / "model.pth")
    with pytest.raises(CorruptArtifactError, match="quantized or complex"):
        read_weights(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_without_bad_advice(folder):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(folder / "model.pth"))
    with pytest.raises(CorruptArtifactError, match="TorchScript") as caught:
        read_weights(folder)
    assert "weights_only" not in str(caught.value)
