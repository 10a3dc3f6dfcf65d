from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from bsm_core.errors import OutputInUseError, SinkError
from bsm_core.scoring.output import lock as module
from bsm_core.scoring.output.lock import holding

HOLD = """
import sys
from pathlib import Path
from bsm_core.scoring.output.lock import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "out" / ".bsm" / "lock"


@pytest.fixture
def other(lock):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_nothing_is_left_afterwards(lock):
    with holding(lock):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.parent.exists()


def test_other_files_of_the_work_folder_stay(lock):
    with holding(lock):
        (lock.parent / "plan.json").touch()
    assert [path.name for path in lock.parent.iterdir()] == ["plan.json"]


def test_the_second_run_is_told_who_the_first_is(lock, other):
    owner = json.loads(lock.read_text())
    with pytest.raises(OutputInUseError) as caught, holding(lock):
        pass
    assert caught.value.exit_code == 1
    assert f"process {other.pid} on host {owner['host']}, started {owner['started']}" in caught.value.what
    assert caught.value.where == str(lock.parent.parent)
    assert json.loads(lock.read_text()) == owner


def test_the_lock_of_a_killed_run_is_taken_over_at_once(lock, other):
    other.kill()
    other.wait()
    assert lock.exists()
    with holding(lock):
        assert json.loads(lock.read_text())["process"] == os.getpid()


@pytest.mark.parametrize(("age", "free"), [(0, False), (module.STALE_S - 10, False), (module.STALE_S + 1, True)])
def test_a_lock_of_another_host_counts_until_it_is_not_renewed(lock, age, free):
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "2026-01-01"}))
    os.utime(lock, (time.time() - age,) * 2)
    if free:
        with holding(lock):
            assert json.loads(lock.read_text())["process"] == os.getpid()
    else:
        with pytest.raises(OutputInUseError, match="on host elsewhere") as caught, holding(lock):
            pass
        assert "if its machine was lost, run again in 120 seconds" in caught.value.fix


def test_the_lock_is_renewed_while_it_is_held(lock, monkeypatch):
    renewed = module.threading.Event()
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(module.os, "utime", lambda descriptor: renewed.set())
    with holding(lock):
        assert renewed.wait(10)


def test_a_run_whose_folder_was_removed_leaves_the_lock_of_the_next_run_alone(lock):
    with holding(lock) as ours:
        ours.require()
        shutil.rmtree(lock.parent.parent)
        with pytest.raises(SinkError, match="the folder was removed or another run took it over"):
            ours.require()
        theirs = holding(lock)
        theirs.__enter__()
        assert ours.is_lost()
    assert lock.exists()
    theirs.__exit__(None, None, None)
    assert not lock.parent.exists()


def test_a_lock_that_another_host_took_over_is_lost(lock):
    """The other host writes into the same file."""
    with holding(lock) as ours:
        lock.write_text(json.dumps({"host": "elsewhere", "process": os.getpid(), "started": "2026-01-01"}))
        with pytest.raises(SinkError, match="another run took it over") as caught:
            ours.require()
        assert caught.value.where == str(lock.parent.parent)
    assert lock.exists()


def test_two_locks_of_one_process_differ(lock):
    with holding(lock) as first:
        pass
    with holding(lock) as second:
        assert first.is_lost()
        assert not second.is_lost()


def test_an_error_that_passes_does_not_end_the_renewal(lock, monkeypatch):
    calls, renewed = [], module.threading.Event()

    def utime(descriptor):
        calls.append(descriptor)
        if len(calls) < 3:
            raise OSError((module.errno.EIO, module.errno.ESTALE)[len(calls) - 1], "passes")
        renewed.set()

    monkeypatch.setattr(module, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(module.os, "utime", utime)
    with holding(lock):
        assert renewed.wait(10)


def test_a_lost_lock_is_not_renewed(lock, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.0)
    held = module._HeldFile(module.Lock(lock, b"ours"))  # not holding(), which would renew it in a thread of its own
    lock.write_text("another run")
    os.utime(lock, (0, 0))
    module._renew(held, module.threading.Event())  # returns
    held.close()
    assert lock.stat().st_mtime == 0


@pytest.mark.parametrize("owner", ["", "[]", "{", '{"process": "\\u001b[31m"}'])
def test_a_lock_file_that_nobody_holds_is_free_whatever_it_says(lock, owner):
    lock.parent.mkdir(parents=True)
    lock.write_text(owner)
    os.utime(lock, (0, 0))
    with holding(lock):
        pass


@pytest.fixture
def without_flock(monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(module.errno.ENOTSUP, "not supported")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)


@pytest.mark.usefixtures("without_flock")
def test_without_flock_a_lock_with_our_process_id_is_left_over(lock):
    """The main process of a container has the same number after each start."""
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": module.socket.gethostname(), "process": os.getpid(), "started": "today"}))
    with holding(lock):
        pass


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("alive", [True, False])
def test_without_flock_the_process_id_says_whether_the_owner_lives(lock, alive):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock.parent.mkdir(parents=True)
    owner = {"host": module.socket.gethostname(), "process": os.getppid() if alive else gone.pid, "started": "today"}
    lock.write_text(json.dumps(owner))
    if alive:
        with pytest.raises(OutputInUseError), holding(lock):
            pass
    else:
        with holding(lock):
            pass


@pytest.mark.parametrize("below", ["", "out", "out/further"])
def test_an_output_folder_that_is_a_file_or_below_one(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SinkError) as caught, holding(tmp_path / "file" / below / ".bsm" / "lock"):
        pass
    assert str(tmp_path / "file") in caught.value.where
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("how", ["link", "hard link", "dangling link"])
def test_a_lock_that_is_another_file_by_a_second_name_is_removed_and_the_file_kept(tmp_path, how):
    other, path = tmp_path / "input.csv", tmp_path / "out" / ".bsm" / "lock"
    path.parent.mkdir(parents=True)
    other.write_text("id\n1\n")
    if how == "hard link":
        path.hardlink_to(other)
    else:
        path.symlink_to(other if how == "link" else tmp_path / "nothing")
    with holding(path) as lock:
        assert not lock.is_lost()
    assert other.read_text() == "id\n1\n"
    assert not path.exists()


def test_a_lock_of_another_host_whose_clock_is_far_ahead_is_left_over(tmp_path):
    path = tmp_path / "lock"
    path.write_text('{"host": "elsewhere", "process": 1, "started": "now"}')
    os.utime(path, times=(time.time() + 9999,) * 2)
    with holding(path):
        pass


def test_a_lock_file_of_brackets_is_left_over(tmp_path):
    path = tmp_path / "lock"
    path.write_text("[" * 4000)
    with holding(path):
        pass


def test_a_living_lock_of_another_host_whose_clock_is_ahead_is_not_taken_over(tmp_path, monkeypatch):
    path = tmp_path / ".bsm/lock"
    path.parent.mkdir()
    path.write_text('{"host": "elsewhere", "process": 1}')  # its time is that of the file system
    ahead = time.time() - 200
    monkeypatch.setattr(time, "time", lambda: ahead)
    with pytest.raises(OutputInUseError), holding(path):
        pass
