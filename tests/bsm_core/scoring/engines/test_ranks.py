"""Which of several failures the watcher of the ranks reports."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bsm_core.errors import BSMError, DataError, EngineError, Interrupted
from bsm_core.runtime.profile import Advance, listening
from bsm_core.runtime.signals import interruptible
from bsm_core.scoring.engines import ranks, world
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.finish import RunResult
from bsm_core.scoring.engines.trainer import DistributedUnavailableError
from bsm_core.scoring.engines.world import Leader, World

DONE = RunResult(Path("out.csv"), 5, 1, 0.5, (), Counter(), {})
LOST = ranks._RankFailure(
    EngineError("process 1 of 2 (rank 0) failed: RuntimeError: Connection closed by peer"), consequence=True
)


@dataclass
class FakeProcess:
    """A process whose exit is seen at the given look."""

    code: int
    seen_at: int = 1
    looks: int = 0
    sentinel: int = field(default_factory=lambda: os.open(os.devnull, os.O_RDONLY))

    @property
    def exitcode(self) -> int | None:
        self.looks += 1
        return self.code if self.looks >= self.seen_at else None


class FakeJob:
    """A job without work."""

    sink, on_progress = SimpleNamespace(add=None), None

    def work(self, plan):
        yield from ()


def watch(*pairs):
    """Watch ranks, each a word (or ...) and a process."""
    watched = []
    for number, (word, process) in enumerate(pairs):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        if word is not ...:
            theirs.send(word)
        theirs.close()
        watched.append(ranks._WatchedRank(ranks._name(number, len(pairs)), process, ours))
    try:
        return ranks._watch(watched)
    finally:
        for _, process in pairs:
            os.close(process.sentinel)


def test_what_a_rank_tells_of_its_progress_reaches_the_listener_before_its_result():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    rank = ranks._WatchedRank("rank 0", SimpleNamespace(exitcode=None), ours)
    for message in (Advance("scoring", 5), Advance("scoring", 9), "result"):
        theirs.send(message)
    told = []
    with listening(told.append, shows=True):
        rank.poll()
    assert [event.rows for event in told] == [5, 9]
    assert rank.message == "result"
    assert ours.closed


def test_what_rank_0_committed_is_returned():
    assert watch((DONE, FakeProcess(0, seen_at=3)), (None, FakeProcess(0, seen_at=5))) == DONE


@pytest.mark.parametrize("seen_at", [1, 2, 50])
def test_a_rank_that_died_is_the_cause_however_late_it_is_seen(seen_at):
    with pytest.raises(EngineError, match=r"process 2 of 2 \(rank 1\) exited with 3"):
        watch((LOST, FakeProcess(1)), (..., FakeProcess(3, seen_at)))


@pytest.mark.parametrize("code", [0, 1])
def test_a_rank_that_ends_without_a_word_has_died_whatever_its_code(code):
    with pytest.raises(EngineError, match=rf"process 2 of 2 \(rank 1\) exited with {code}"):
        watch((None, FakeProcess(0, seen_at=9)), (..., FakeProcess(code)))


@pytest.mark.parametrize("seen_at", [1, 50])
def test_a_rank_that_names_its_error_is_the_cause(seen_at):
    with pytest.raises(DataError, match="line 14"):
        watch((LOST, FakeProcess(1)), (ranks._RankFailure(DataError("line 14")), FakeProcess(1, seen_at)))


def test_a_lost_connection_is_reported_where_nothing_else_shows_up(monkeypatch):
    monkeypatch.setattr(ranks, "GRACE_S", 0.05)
    with pytest.raises(EngineError, match="Connection closed by peer"):
        watch((LOST, FakeProcess(1)), (..., FakeProcess(0, seen_at=10**9)))


def test_the_fall_back_is_taken_where_every_rank_could_not_connect():
    word = ranks._RankFailure(DistributedUnavailableError("no such interface"), consequence=True)
    with pytest.raises(DistributedUnavailableError):
        watch((word, FakeProcess(1)), (word, FakeProcess(1)))


def test_rank_0_must_commit():
    with pytest.raises(BSMError, match="without committing"):
        watch((None, FakeProcess(0)), (None, FakeProcess(0)))


def test_the_traceback_of_the_cause_alone_is_logged(caplog):
    cause = ranks._RankFailure(
        EngineError("process 2 of 2 (rank 1) failed: KeyError: 'x'"), traceback="Traceback ...\n  line 7"
    )
    lost = ranks._RankFailure(LOST.error, consequence=True, traceback="Traceback ...\n  of a lost connection")
    with pytest.raises(EngineError), caplog.at_level(logging.ERROR, "bsm"):
        watch((lost, FakeProcess(1)), (cause, FakeProcess(1)))
    assert caplog.messages == ["process 2 of 2 (rank 1) failed: KeyError: 'x'\nTraceback ...\n  line 7"]


@pytest.mark.parametrize(("windows", "said"), [(1, True), (2, False)])
def test_fewer_windows_than_processes_are_said(monkeypatch, caplog, windows, said):
    committed = replace(DONE, windows=windows)
    monkeypatch.setattr(ranks, "_launch", lambda job, plan: committed)
    with caplog.at_level(logging.INFO, "bsm"):
        assert ranks.run(None, DevicePlan("cpu", (0, 1)))[0] == committed
    assert ("1 window(s) for 2 processes" in caplog.text) == said


@pytest.fixture
def lead(monkeypatch):
    """Runs the first process of a world whose others are a function: what :func:`world.shared` does, by its call."""
    monkeypatch.setattr(ranks, "GRACE_S", 0.01)
    monkeypatch.setattr(ranks, "share_cores", lambda processes: None)
    monkeypatch.setattr(ranks, "require_all", lambda: None)

    def start(shared, score=lambda *_: DONE):
        calls = iter(shared)
        for module in (ranks, world):
            monkeypatch.setattr(module, "shared", lambda value: next(calls)())
        monkeypatch.setattr(ranks, "score", score)
        leader = Leader(World("torchrun", 0, 2, 0, 2))
        return ranks.lead(leader, FakeJob(), DevicePlan("cpu", (0, 1), world=leader.world))[0]

    return start


def lose():
    raise RuntimeError("Connection closed by peer")


def test_a_process_that_is_lost_after_the_commit_fails_no_run(lead):
    assert lead([lambda: None, lose]) == DONE


def test_an_error_of_torch_is_no_lost_process_if_all_are_there(lead):
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        lead([lose])


@pytest.mark.parametrize("code", [-signal.SIGTERM, 128 + signal.SIGTERM])
def test_a_rank_that_somebody_terminated_is_named(code, monkeypatch):
    monkeypatch.setattr(ranks, "_SIGNAL_S", 0.01)
    with pytest.raises(EngineError, match=r"process 2 of 2 \(rank 1\) was killed by SIGTERM"):
        watch((LOST, FakeProcess(1)), (..., FakeProcess(code)))


def test_a_signal_to_all_processes_is_the_cause_and_not_the_end_of_a_rank(monkeypatch):
    monkeypatch.setattr(ranks.time, "sleep", lambda seconds: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        watch((None, FakeProcess(0)), (..., FakeProcess(-signal.SIGTERM)))


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGBUS])
def test_memory_and_shared_memory_are_named_where_they_may_be_the_cause(code):
    with pytest.raises(EngineError, match=r"(?s)rank 1.*shared memory \(/dev/shm\)"):
        watch((None, FakeProcess(0)), (..., FakeProcess(code)))


def test_a_rank_is_started_so_that_it_never_sees_ctrl_c(monkeypatch):
    def start(process):
        raise RuntimeError(f"started without {signal.pthread_sigmask(signal.SIG_BLOCK, ())}")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start)
    with pytest.raises(RuntimeError, match="SIGINT"):
        ranks._launch(FakeJob(), DevicePlan("cpu", (0, 1)))


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_signal_while_a_rank_is_started_leaves_no_process(monkeypatch, at):
    """The exception of a signal comes just before or just after the second process was started."""
    started, begin = [], multiprocessing.context.SpawnProcess.start

    def start(process):
        started.append(process)
        if len(started) == 2 and at == "before":
            raise Interrupted(signal.SIGTERM)
        begin(process)
        if len(started) == 2:
            raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", start)
    with pytest.raises(Interrupted):
        ranks._launch(FakeJob(), DevicePlan("cpu", (0, 1)))
    assert [process.pid and process.exitcode for process in started] == [-9, None if at == "before" else -9]


def test_without_loopback_no_process_waits_for_the_others():
    """In a network namespace of its own, a process cannot connect to itself."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    code = "from bsm_core.scoring.engines import ranks; ranks._free_port()"
    ended = subprocess.run(
        [*alone, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "DistributedUnavailableError: the processes could not be connected: 127.0.0.1: " in ended.stderr
