"""The lock of an output folder in an object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
from support.google_store import google_bucket

from bsm_core.errors import OutputInUseError
from bsm_core.scoring.output import lock as module
from bsm_core.scoring.output.lock import holding

HOLD = """
import sys
from bsm_core.scoring.output.lock import holding
from bsm_core.storage.objects import place
with holding(place(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
ELSEWHERE = {"host": "elsewhere", "process": 1, "started": "2026-01-01", "machine": "another"}


@pytest.fixture
def lock(bucket):
    return bucket / "out" / ".bsm" / "lock"


@pytest.fixture
def other(lock):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def age(lock, monkeypatch):
    """Writes a lock of another machine, which was renewed some seconds ago."""

    def write(seconds, **owner):
        lock.put(json.dumps({**ELSEWHERE, **owner}).encode())
        old, lookup = lock.lookup(), module.ObjectPath.lookup

        def earlier(path):
            found = lookup(path)
            ago = seconds * 10**9 if found.version == old.version else 0
            return found._replace(changed=found.changed - ago)

        monkeypatch.setattr(module.ObjectPath, "lookup", earlier)

    return write


def test_nothing_is_left_afterwards(lock):
    with holding(lock) as held:
        assert json.loads(lock.read_text())["process"] == os.getpid()
        assert not held.is_lost()
    assert not lock.parent.exists()
    assert module._held == set()


def test_the_second_run_is_told_who_the_first_is(lock, other):
    owner = json.loads(lock.read_text())
    with pytest.raises(OutputInUseError) as caught, holding(lock):
        pass
    assert f"process {other.pid} on host {owner['host']}, started {owner['started']}" in caught.value.what
    assert caught.value.where == str(lock.parent.parent)
    assert json.loads(lock.read_text()) == owner
    assert [path.name for path in lock.parent.objects()] == ["lock"]


def test_a_second_run_in_the_same_process_is_another_run(lock):
    with holding(lock) as held:
        with pytest.raises(OutputInUseError), holding(lock):
            pass
        assert not held.is_lost()


def test_the_lock_of_a_killed_run_of_this_machine_is_taken_over_at_once(lock, other):
    other.kill()
    other.wait()
    assert lock.exists()
    with holding(lock):
        assert json.loads(lock.read_text())["process"] == os.getpid()


def test_a_lock_is_taken_over_and_renewed_where_versions_have_numbers(monkeypatch):
    """Google's store compares these, and no entity tags."""
    with google_bucket(monkeypatch) as bucket:
        lock = bucket / "out" / ".bsm" / "lock"
        lock.put(json.dumps({**module._myself(), "process": 2**30}).encode())
        with holding(lock) as held:
            own = module._HeldObject.__new__(module._HeldObject)
            own.lock, own._path, own._version = held, lock, {"e_tag": '"old"', "version": "1"}
            own.renew()
            own.renew()
            assert lock.lookup().generation == "3"
            assert not held.is_lost()
        assert not lock.is_file()


def test_a_process_of_the_same_number_on_another_machine_is_another_one(lock, age):
    age(0, process=os.getpid())
    with pytest.raises(OutputInUseError), holding(lock):
        pass


@pytest.mark.parametrize(("seconds", "free"), [(0, False), (module.STALE_S - 10, False), (module.STALE_S + 1, True)])
def test_a_lock_of_another_machine_counts_until_it_is_not_renewed(lock, age, seconds, free):
    age(int(seconds))
    if free:
        with holding(lock):
            assert json.loads(lock.read_text())["process"] == os.getpid()
    else:
        with pytest.raises(OutputInUseError, match="process 1 on host elsewhere"), holding(lock):
            pass


def test_only_one_of_several_runs_takes_a_lock_over(lock, age):
    age(int(module.STALE_S) + 1)
    together, outcomes = threading.Barrier(4), []
    monitor = threading.Event()

    def take():
        together.wait()
        try:
            with holding(lock):
                outcomes.append("held")
                monitor.wait(10)
        except OutputInUseError:
            outcomes.append("in use")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 4:
        threads[0].join(0.01)
    monitor.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "in use", "in use", "in use"]


def test_a_lock_is_renewed_while_it_is_held(lock, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.0)
    renewed, put = threading.Event(), module.ObjectPath.put

    def counted(path, content, mode="overwrite"):
        version = put(path, content, mode)
        if isinstance(mode, dict):
            renewed.set()
        return version

    monkeypatch.setattr(module.ObjectPath, "put", counted)
    with holding(lock):
        assert renewed.wait(10)


def test_a_lock_that_was_taken_over_or_removed_is_lost_and_left_alone(lock):
    with holding(lock) as held:
        lock.unlink()
        assert held.is_lost()
        lock.put(json.dumps(ELSEWHERE).encode())
        assert held.is_lost()
    assert json.loads(lock.read_text()) == ELSEWHERE


def test_a_renewal_whose_answer_was_lost_is_no_loss(lock):
    with holding(lock) as held:
        own = module._HeldObject.__new__(module._HeldObject)
        own.lock, own._path, own._version = held, lock, {"e_tag": '"old"'}
        own.renew()
        own.renew()
        assert not held.is_lost()
        assert own._version == lock.lookup().mode
