from __future__ import annotations

import errno

import pytest
import torch

from bsm_core.errors import CheckpointError, SinkError
from bsm_core.runtime import durable
from bsm_core.training.resuming.checkpoints import LAST, WholeCheckpoints, read_checkpoint, write_whole

STATE = {"epoch": 2, "global_step": 7, "state_dict": {"weight": torch.arange(1000)}}


def test_a_checkpoint_is_read_as_it_was_written_and_nothing_is_beside_it(tmp_path):
    plugin, file = WholeCheckpoints(), tmp_path / "job" / LAST
    plugin.save_checkpoint({"epoch": 1}, file)
    plugin.save_checkpoint(STATE, str(file))
    assert [path.name for path in file.parent.iterdir()] == [LAST]
    assert plugin.load_checkpoint(file, lambda storage, where: storage)["epoch"] == 2
    assert read_checkpoint(file, lazily=True)["state_dict"]["weight"][999] == 999


@pytest.mark.parametrize("step", ["write_torch", "durable.flush"])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_beside_it(tmp_path, monkeypatch, step):
    file = tmp_path / LAST
    write_whole(STATE, file)

    def full(*_):
        (tmp_path / f".{LAST}.tmp").write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(f"bsm_core.training.resuming.checkpoints.{step}", full)
    with pytest.raises(SinkError, match="could not be written: No space left on device") as caught:
        write_whole({"epoch": 3}, file)
    assert caught.value.where == str(file)
    assert "free space" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    assert read_checkpoint(file)["epoch"] == 2


def test_a_process_that_is_killed_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / LAST
    write_whole(STATE, file)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(durable, "flush", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole({"epoch": 3}, file)
    assert read_checkpoint(file)["epoch"] == 2


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("size", [0, 1, 100, 5_000, -1])
def test_a_file_that_was_cut_is_named(tmp_path, size, lazily):
    file = tmp_path / "fold-1" / LAST
    write_whole(STATE, file)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read: ") as caught:
        read_checkpoint(file, lazily=lazily)
    assert caught.value.where == str(file)
    assert caught.value.fix.startswith(f"remove {file} to begin this training anew")
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("value", [[1], {"epoch": 1}, 5])
def test_a_file_with_something_else_is_named(tmp_path, value):
    torch.save(value, tmp_path / LAST)
    with pytest.raises(CheckpointError, match="it is a file of something else"):
        read_checkpoint(tmp_path / LAST)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read: No such file or directory"):
        read_checkpoint(tmp_path / LAST)
