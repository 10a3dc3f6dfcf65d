"""Which runs can write into one output folder at the same time: shards of one number of hosts, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from support.processes import python
from support.toy import toy_rows

from bsm_core.errors import OutputInUseError, UsageError
from bsm_core.scoring.job import clean
from bsm_core.scoring.output import lock as locks
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.merge import merge
from bsm_core.scoring.output.shard import Shard

KILLED = """
import os, signal, sys
from pathlib import Path
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.shard import Shard
with WorkFolder(Path(sys.argv[1]), Shard(0, 2)).held():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def shard(text):
    return Shard(*map(int, text.split("/"))) if text else None


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def job(run):
    """A job of four files, in whose output folder the shard 1 of 2 is done."""
    for number in range(4):
        toy_rows(3).to_csv(run.data / f"{number}.csv", index=False)
    run(shard="1/2")
    return run


@pytest.mark.parametrize(("first", "second"), [("0/2", None), (None, "0/2"), ("2/3", "0/2"), ("0/2", "2/3")])
def test_the_second_run_ends_at_once_and_touches_nothing(job, first, second):
    with WorkFolder(job.out, shard(first)).held():
        before = content(job.out)
        with pytest.raises(OutputInUseError, match=f"process {os.getpid()} on host") as caught:
            job(shard=second)
        assert caught.value.where == str(job.out)
        with pytest.raises(UsageError):  # it leaves no marker either
            job(shard=second, batch_size="x")
        assert content(job.out) == before
    assert not list(job.out.glob(".bsm*"))
    job(shard=second)


@pytest.mark.parametrize("other", [None, "0/2", "1/2", "2/3"])
def test_nothing_is_merged_or_cleaned_while_a_run_writes(job, other):
    job(shard="0/2")
    work = WorkFolder(job.out, Shard(3, 4))
    work.path.mkdir()
    work.begin({})
    with WorkFolder(job.out, shard(other)).held():
        before = content(job.out)
        for refused in (merge, clean):
            with pytest.raises(OutputInUseError):
                refused(job.out)
        assert content(job.out) == before
    assert work.plan() == {}
    merge(job.out)
    assert clean(job.out) == 0
    assert not list(job.out.glob(".bsm*"))


def test_shards_of_one_job_are_scored_at_the_same_time(job):
    with WorkFolder(job.out, Shard(1, 2)).held():
        job(shard="0/2")


def test_a_shard_that_was_killed_is_in_nobodys_way(job):
    assert python("-c", KILLED, job.out).returncode == -signal.SIGKILL
    assert (job.out / ".bsm-00000" / "lock").exists()
    job()
    assert (job.out / "_SUCCESS").exists()


@pytest.mark.parametrize(("age", "free"), [(0, False), (locks.STALE_S - 10, False), (locks.STALE_S + 1, True)])
def test_a_shard_on_another_host_counts_until_its_lock_is_not_renewed(job, age, free):
    path = WorkFolder(job.out, Shard(0, 2)).lock
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "2026-01-01", "hosts": 2}))
    os.utime(path, (time.time() - age,) * 2)
    job(shard="1/2")
    if free:
        job()
    else:
        with pytest.raises(OutputInUseError, match="on host elsewhere"):
            job()


@pytest.mark.parametrize("said", ["", "{", "[]"])
def test_a_run_that_is_only_beginning_sees_the_other_itself(job, said):
    """What a lock holds before its run has written who it is: that run looks at the locks of others afterwards."""
    path = WorkFolder(job.out).lock
    path.parent.mkdir()
    path.write_text(said)
    with WorkFolder(job.out, Shard(0, 2)).held(), pytest.raises(OutputInUseError), WorkFolder(job.out).held():
        pass


def test_to_look_at_a_lock_keeps_nobody_from_taking_it(job, monkeypatch):
    """Also not while a lock that was left over is looked at."""
    assert python("-c", KILLED, job.out).returncode == -signal.SIGKILL
    left, lives = WorkFolder(job.out, Shard(0, 2)), locks._lives

    def take(owner):
        with holding(left.lock, 2):
            return lives(owner)

    monkeypatch.setattr(locks, "_lives", take)
    with WorkFolder(job.out, Shard(2, 3)).held():
        pass


def test_files_that_look_like_work_folders_are_none(job):
    (job.out / ".bsm-00007").write_text("notes")
    (job.out / ".bsm-00000").mkdir()
    job()


def test_runs_exclude_each_other_in_an_object_store_too(bucket):
    out = bucket / "out"
    for first, second in (("0/2", None), (None, "0/2"), ("2/3", "0/2")):
        with WorkFolder(out, shard(first)).held():
            with pytest.raises(OutputInUseError), WorkFolder(out, shard(second)).held():
                pass
            assert [path.name for path in out.objects()] == ["lock"]
    with WorkFolder(out, Shard(0, 2)).held(), WorkFolder(out, Shard(1, 2)).held():
        pass
    assert not list(out.objects())
    lost = json.dumps({"host": "elsewhere", "machine": locks._machine(), "process": 2**22 + 1, "hosts": 2})
    WorkFolder(out, Shard(0, 2)).lock.put(lost.encode())
    with WorkFolder(out).held():
        pass


def test_a_folder_that_cannot_be_listed_is_guarded_by_the_lock_of_a_run(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    with WorkFolder(tmp_path).held():
        monkeypatch.setattr("pathlib.Path.iterdir", refuse)
        with pytest.raises(OutputInUseError), WorkFolder(tmp_path, Shard(0, 2)).held():
            pass
    with holding(WorkFolder(tmp_path, Shard(0, 2)).lock), WorkFolder(tmp_path).held():
        pass
