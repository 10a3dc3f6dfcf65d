"""SIGKILL at random moments of one run, each followed by the same command, until the run is done."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.harness import ALL
from support.processes import Child
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.plugins.registry import default_registry
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import RECORD, named
from bsm_core.scoring.output.shard import Shard

EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews"
ROWS, KILLS, WINDOW = (20_000, 50, 200) if ALL else (2_000, 2, 50)


@dataclass
class Run:
    """One command, again and again.

    Attributes:
        command: The command.
        output: Its output folder.
        shard: Share of the host that runs it, if several do.
        forked: Whether the process is a fork, which need not import the libraries.
    """

    command: list[str]
    output: Path
    shard: Shard | None = None
    forked: bool = False

    @property
    def rows_done(self) -> int:
        """Number of rows that the manifest holds."""
        return WorkFolder(self.output, self.shard).rows_done()

    def start(self) -> subprocess.Popen[bytes] | Child:
        """Start the command in a session of its own."""
        with (self.output.parent / "said").open("w") as said:
            if self.forked:
                return Child(*self.command[1:], said=said)
            return subprocess.Popen(self.command, stdout=said, stderr=said, start_new_session=True)

    def whole(self) -> tuple[str, dict]:
        """Run the command to its end; return what it said, and its record."""
        status = self.start().wait()
        said = (self.output.parent / "said").read_text()
        assert status == 0, said
        return said, json.loads((self.output / named(RECORD, self.shard)).read_text())

    def timed(self) -> tuple[float, float, dict]:
        """Run the command to its end; return the seconds to its first part and from there on, and its record."""
        began, first = time.monotonic(), None
        process = self.start()
        while process.poll() is None:
            if first is None and self.rows_done:
                first = time.monotonic()
            time.sleep(0.01)
        assert process.returncode == 0, (self.output.parent / "said").read_text()
        assert first is not None
        return first - began, time.monotonic() - first, json.loads((self.output / "run.json").read_text())

    def kill_after(self, seconds: float, more_than: int = -1) -> bool:
        """Start the command and kill its process; return whether it had not ended.

        Args:
            seconds: Seconds that the process has, from the moment at which the manifest holds more than so many rows.
            more_than: Number of rows of the manifest. -1: the seconds count from the start.
        """
        process = self.start()
        while self.rows_done <= more_than and process.poll() is None:
            time.sleep(0.01)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        deadline = time.monotonic() + 30
        while alive(process.pid):
            assert time.monotonic() < deadline, "a rank outlives the run"
            time.sleep(0.01)
        assert status in (0, -signal.SIGKILL), (self.output.parent / "said").read_text()
        return status != 0


def alive(session: int) -> bool:
    """Return whether a session has a process that has not ended."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """The example's reviews, repeated, with ids of their own."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with (EXAMPLE / "reviews.csv").open(newline="") as given, path.open("w", newline="") as made:
        head, *rows = csv.reader(given)
        writer = csv.writer(made)
        writer.writerow(head)
        at = head.index("review_id")
        for i in range(ROWS):
            row = rows[i % len(rows)]
            writer.writerow([*row[:at], f"r{i:06}", *row[at + 1 :]])
    return path


def run_of(data: Path, output: Path, table_format: str, devices: str) -> Run:
    output.parent.mkdir(parents=True, exist_ok=True)
    places = ["--model-dir", EXAMPLE / "model.tar.gz", "--data-dir", data, "--output-dir", output, "--run-record"]
    how = ["--output-format", table_format, "--window-rows", WINDOW, "--devices", devices, "--device", "cpu"]
    command = [sys.executable, "-m", "bsm_core.run", "--job_type", "inference", "--id-field", "review_id"]
    return Run([str(word) for word in (*command, *places, *how)], output)


def predictions(run: Run) -> Path:
    [path] = run.output.glob("inference_predictions.*")
    return path


@pytest.mark.parametrize("devices", ["1", "2"] if ALL else ["1"])
@pytest.mark.parametrize("table_format", ["csv", "parquet"] if ALL else ["csv"])
def test_kills_at_random_moments(reviews, tmp_path, record_fault, table_format, devices):
    """Half of the kills come before the first new part, as a rule, and half after it."""
    undisturbed = run_of(reviews, tmp_path / "whole" / "out", table_format, devices)
    start_up, scoring_time, record = undisturbed.timed()
    expected = predictions(undisturbed).read_bytes()

    run = run_of(reviews, tmp_path / "killed" / "out", table_format, devices)
    chance = random.Random(7)
    kills, scoring, done = 0, 0, 0
    while kills < KILLS:
        if kills % 2:
            killed = run.kill_after(chance.uniform(0, start_up))
        else:  # not after a time from the start: on a busy machine, the first part may be late
            killed = run.kill_after(chance.uniform(0, 2 * scoring_time / KILLS), more_than=done)
        kills += killed
        if (run.output / "_SUCCESS").exists():  # the kill came too late
            assert predictions(run).read_bytes() == expected
            shutil.rmtree(run.output)
            done = 0
            continue
        assert killed
        assert not (run.output / "_FAILURE").exists()
        before, done = done, run.rows_done
        assert done >= before
        scoring += done > before
    said, last = run.whole()
    assert predictions(run).read_bytes() == expected
    assert not done or f"{done:,} rows are done by an earlier attempt" in said
    assert last["attempts"][-1]["rows"] == ROWS - done
    assert sum(attempt["rows"] for attempt in last["attempts"]) == ROWS
    share, took = (ROWS - done) / ROWS, last["seconds"] / record["seconds"]
    record_fault(
        fault=f"{kills} kills at random moments, {scoring} of them after new rows",
        left=f"{share:.0%} of {ROWS:,} rows for the last attempt, which took {took:.0%} of an undisturbed run's time",
    )


FILES, FILE_ROWS, SHARD_KILLS = (7, 20_000, 10) if ALL else (4, 200, 1)


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Commands of a job of the toy artifact: without shards, of each of three hosts, and the merging."""
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    default_registry.cache_clear()
    model = write_toy_artifact(tmp_path / "model")
    default_registry.cache_clear()
    (tmp_path / "data").mkdir()
    for number in range(FILES):  # of whole windows, so that a model rounds alike however files are shared
        rows = toy_rows(FILE_ROWS).astype(object)
        rows["id"] = [f"{number}-{i}" for i in range(FILE_ROWS)]
        rows.loc[9, "amount"] = "many"
        rows.to_csv(tmp_path / "data" / f"{number}.csv", index=False)
    shared = [sys.executable, "-m", "bsm_core.run", "--job_type", "inference", "--id-field", "id", "--device", "cpu"]
    shared += ["--model-dir", model, "--data-dir", tmp_path / "data", "--window-rows", "20", "--run-record"]

    def made(output, *more, command=shared, shard=None):
        output.parent.mkdir(exist_ok=True)
        return Run([str(word) for word in (*command, *more)], output, shard, forked=not ALL)

    one, out = tmp_path / "one" / "out", tmp_path / "three" / "out"
    whole = made(one, "--output-dir", one, "--row-issues", one / "issues.csv")
    each = [
        made(out, "--output-dir", out, "--row-issues", out / "issues.csv", "--shard", f"{i}/3", shard=Shard(i, 3))
        for i in range(3)
    ]
    merging = made(out, out, command=[sys.executable, "-m", "bsm_core.cli", "merge"])
    return whole, each, merging


def test_kills_of_one_host_of_three_and_of_the_merging(shards, record_fault):
    """The merging of a job of which a shard is not done says so, and `_SUCCESS` is not there."""
    whole, (first, second, third), merging = shards
    whole.whole()
    first.whole()
    third.whole()
    chance, kills, scoring, done = random.Random(7), 0, 0, 0
    while kills < SHARD_KILLS:
        kills += second.kill_after(chance.uniform(0, 2.0 if ALL else 0.02), more_than=done if kills % 2 == 0 else -1)
        done, before = second.rows_done, done
        scoring += done > before
        if (second.output / "_SUCCESS-00001").exists():  # the kill came too late: the host scores its shard again
            assert (second.output / "_SUCCESS").exists()
            done = 0
            continue
        assert not (second.output / "_SUCCESS").exists()
        if kills == 1:
            assert merging.start().wait() == 2
            assert "shard 1/3 is not done" in (second.output.parent / "said").read_text()
    second.whole()
    assert (second.output / "_SUCCESS").exists()
    for _ in range(SHARD_KILLS):
        merging.kill_after(chance.uniform(0, 3))
        found = {path.name: path.read_bytes() for path in second.output.glob("inference_predictions.*")}
        assert found in ({}, {"inference_predictions.csv": predictions(whole).read_bytes()})
    assert merging.start().wait() == 0
    assert (merging.output / "inference_predictions.csv").read_bytes() == predictions(whole).read_bytes()
    assert not list(merging.output.glob(".bsm*"))
    issues = [list(csv.DictReader(path.open())) for path in sorted(merging.output.glob("issues-*"))]
    expected = list(csv.DictReader((whole.output / "issues.csv").open()))
    assert sorted(row["id"] for rows in issues for row in rows) == sorted(row["id"] for row in expected)
    record_fault(fault=f"{kills} kills of one of three hosts, {scoring} of them after new rows, and of the merging")


@pytest.mark.skipif(not ALL, reason="tests/bsm_core/scoring/engines/test_world.py kills one of two tasks")
def test_kills_of_one_task_of_two(shards, monkeypatch, record_fault):
    """The first task, which no program ends, names the one that was killed."""
    whole, (_, run, _), _ = shards
    whole.whole()
    at = run.command.index("--shard")
    run.command[at : at + 2], run.shard = [], None
    chance, named_it, early = random.Random(7), 0, 0
    for number in range(SHARD_KILLS):
        step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
        step |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(21_000 + number)}
        tasks = []
        for task in range(2):
            for name, value in {**step, "SLURM_PROCID": str(task), "SLURM_NODEID": str(task)}.items():
                monkeypatch.setenv(name, value)
            tasks.append(run.start())
        done = run.rows_done
        while run.rows_done <= done and all(task.poll() is None for task in tasks):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2))
        tasks[1].kill()
        status, failure = tasks[0].wait(), run.output / "_FAILURE"
        if status:
            assert "process 2 of 2 (rank 1)" in failure.read_text()
            named_it += 1
        else:  # all was done
            assert predictions(run).read_bytes() == predictions(whole).read_bytes()
            shutil.rmtree(run.output)
            early += 1
    for name in (*step, "SLURM_PROCID", "SLURM_NODEID"):
        monkeypatch.delenv(name)
    run.whole()
    assert predictions(run).read_bytes() == predictions(whole).read_bytes()
    record_fault(fault=f"{SHARD_KILLS} kills of one of two tasks of SLURM", saw=f"{named_it} errors that name it")
