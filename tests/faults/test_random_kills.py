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

from bsm_core.scoring.output.manifest import WorkFolder

EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews"
ROWS, KILLS, WINDOW = (20_000, 50, 200) if ALL else (2_000, 3, 50)


@dataclass
class Run:
    """One command, again and again.

    Attributes:
        command: The command.
        output: Its output folder.
    """

    command: list[str]
    output: Path

    @property
    def rows_done(self) -> int:
        """Number of rows that the manifest holds."""
        return WorkFolder(self.output).rows_done()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own."""
        with (self.output.parent / "said").open("w") as said:
            return subprocess.Popen(self.command, stdout=said, stderr=said, start_new_session=True)

    def whole(self) -> tuple[str, dict]:
        """Run the command to its end; return what it said, and its record."""
        status = self.start().wait()
        said = (self.output.parent / "said").read_text()
        assert status == 0, said
        return said, json.loads((self.output / "run.json").read_text())

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


@pytest.mark.parametrize("devices", ["1", "2"])
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
