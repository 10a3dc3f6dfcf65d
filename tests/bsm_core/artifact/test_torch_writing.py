from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from bsm_core.artifact.torch_writing import write_torch


def test_torch_reads_what_was_written(tmp_path):
    write_torch({"weights": torch.arange(3)}, tmp_path / "m.pth")
    assert torch.load(tmp_path / "m.pth")["weights"].tolist() == [0, 1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk_is_an_error_of_the_system(size):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is checked
        write_torch(torch.zeros(size), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_what_cannot_be_saved_is_an_error_of_torch(tmp_path):
    with pytest.raises(AttributeError):
        write_torch(lambda: None, tmp_path / "m.pth")
