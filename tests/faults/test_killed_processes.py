"""SIGKILL of one process of a run on several: a rank, an actor of Ray, and the driver of the actors."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from faults.harness import ALL
from faults.test_random_kills import Run, predictions, reviews, run_of
from support.processes import descendants

KILLS = 10
pytestmark = pytest.mark.skipif(not ALL, reason="takes many minutes: FAULTS=all")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
RANK, ACTOR = "--multiprocessing-fork", "ray::WindowActor"
__all__ = ["reviews"]  # a fixture


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """One thread for each process: other numbers of threads give other bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def expected(reviews, tmp_path_factory):
    """The bytes of an undisturbed run of one process."""
    run = run_of(reviews, tmp_path_factory.mktemp("whole") / "out", "csv", "1")
    run.whole()
    return predictions(run).read_bytes()


@pytest.fixture
def run(reviews, tmp_path):
    """The run on two processes."""
    return run_of(reviews, tmp_path / "out", "csv", "2")


@pytest.fixture
def ray_run(run):
    """The run with two actors."""
    at = run.command.index("--devices")
    return Run([*run.command[:at], "--engine", "ray", "--num-actors", "2", *run.command[at + 2 :]], run.output)


def wait_for_rows(run, process, more_than):
    """Wait until the manifest has more than so many rows; return whether the run goes on."""
    while run.rows_done <= more_than and process.poll() is None:
        time.sleep(0.01)
    return process.poll() is None


def runs(process):
    """Return whether a process has not ended; one that nobody has waited for has ended too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def said(run):
    return (run.output.parent / "said").read_text()


def test_a_rank(run, expected, record_fault):
    """The run ends with an error that names it, and goes on when the same command is started again."""
    chance, kills, done = random.Random(7), 0, 0
    while kills < KILLS:
        process = run.start()
        if wait_for_rows(run, process, done):
            time.sleep(chance.uniform(0, 0.3))
            done = run.rows_done
            ranks = [number for number, command in descendants(process.pid).items() if RANK in command]
            if ranks:
                os.kill(chance.choice(ranks), signal.SIGKILL)
        if process.wait(300) == 0:  # the kill came too late
            done = 0
            assert predictions(run).read_bytes() == expected
            predictions(run).unlink()
            continue
        kills += 1
        assert process.returncode == 1, said(run)
        failure = (run.output / "_FAILURE").read_text()
        assert re.search(r"process [12] of 2 \(rank [01]\) was killed by SIGKILL", failure), failure
        assert not list(run.output.glob("inference_predictions.*"))
    run.whole()
    assert predictions(run).read_bytes() == expected
    record_fault(fault=f"{kills} kill(s) of a rank", saw="process 1 of 2 (rank 0) was killed by SIGKILL")


@needs_ray
def test_an_actor(ray_run, expected, record_fault):
    """The run goes on without it."""
    chance, kills = random.Random(7), 0
    while kills < KILLS:
        process, done = ray_run.start(), 0
        while wait_for_rows(ray_run, process, done):
            time.sleep(chance.uniform(0, 0.3))
            done = ray_run.rows_done
            actors = [number for number, command in descendants(process.pid).items() if command.startswith(ACTOR)]
            if actors and kills < KILLS:
                os.kill(chance.choice(actors), signal.SIGKILL)
                kills += 1
        assert process.wait(300) == 0, said(ray_run)
        assert predictions(ray_run).read_bytes() == expected
        predictions(ray_run).unlink()
    record_fault(fault=f"{kills} kills of an actor", saw="a new one takes its place")


@needs_ray
def test_the_driver(ray_run, expected, record_fault):
    """All processes of Ray end, and the run goes on when the same command is started again."""
    chance, kills, done, seen = random.Random(7), 0, 0, 0
    while kills < KILLS:
        process = ray_run.start()
        if wait_for_rows(ray_run, process, done if kills % 2 else -1):
            time.sleep(chance.uniform(0, 0.3) if kills % 2 else chance.uniform(0, 10))
        others = descendants(process.pid)
        process.kill()
        if process.wait() == 0:
            done = 0
            assert predictions(ray_run).read_bytes() == expected
            predictions(ray_run).unlink()
            continue
        kills, seen = kills + 1, seen + len(others)
        deadline = time.monotonic() + 300  # Ray's agents look for their parent now and then
        while left := [command for number, command in others.items() if runs(number)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        assert ray_run.rows_done >= done
        done = ray_run.rows_done
    assert seen
    ray_run.whole()
    assert predictions(ray_run).read_bytes() == expected
    record_fault(fault=f"{kills} kills of the driver", left=f"{done:,} rows for the last attempt to keep")
