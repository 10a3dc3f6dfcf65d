"""Faults of the machine: memory, a stopped process, a changed input, a removed folder, kills at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from faults.harness import ALL, require_no_lie, require_resumed

KILLS = 50 if ALL else 1
"""Number of random kills."""


def start(harness, *more, limit=""):
    """Start the command in an interpreter of its own."""
    environment = {**os.environ, **harness.environment, "OMP_NUM_THREADS": "1"}
    command = ["sh", "-c", f'{limit}exec "$@"', "sh", sys.executable, "-B", "-m", "bsm_core.run"]
    command += harness.arguments(*more)
    said = (harness.work / "said").open("w")
    return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def end(harness, process):
    """Wait for the end of a process; return its outcome."""
    status = process.wait(120)
    return harness.outcome(status, (harness.work / "said").read_text())


@pytest.mark.parametrize("devices", ["1", "2"])
def test_kills_at_random_moments(harness, devices):
    """The moments are spread over the time that a whole run takes here."""
    chance = random.Random(7)
    harness.clear()
    began = os.times().elapsed
    assert end(harness, start(harness, "--devices", devices)).status == 0
    seconds = os.times().elapsed - began
    for _ in range(KILLS):
        harness.clear()
        process = start(harness, "--devices", devices)
        timer = threading.Timer(chance.uniform(0, seconds), process.kill)
        timer.start()
        require_no_lie(end(harness, process), harness)
        timer.join()
        require_resumed(harness)


def test_a_process_that_is_stopped_and_continued(harness):
    harness.clear()
    process = start(harness)
    while not (harness.output / ".bsm" / "plan.json").exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    assert end(harness, process).status == 0
    assert harness.predictions.read_bytes() == harness.expected


@pytest.mark.parametrize("megabytes", [600, 1100, 1300, 1500] if ALL else [1100])
def test_too_little_memory(harness, megabytes):
    harness.clear()
    outcome = end(harness, start(harness, limit=f"ulimit -v {megabytes << 10} && "))
    require_no_lie(outcome, harness)
    if outcome.status:
        assert outcome.status == 1, outcome
        assert outcome.failure, outcome
    require_resumed(harness)


def test_the_output_folder_is_removed_during_the_run(harness):
    harness.clear()
    process = start(harness)
    while not (harness.output / ".bsm" / "plan.json").exists() and process.poll() is None:
        pass
    shutil.rmtree(harness.output)
    outcome = end(harness, process)
    assert outcome.status == 1, outcome
    require_no_lie(outcome, harness)
    require_resumed(harness)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount a small disk")
def test_a_small_disk(harness, tmp_path):
    harness.clear()
    harness.output.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12k", "none", harness.output], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        outcome = end(harness, start(harness))
        require_no_lie(outcome, harness)
        assert outcome.status == 1, outcome
        assert "No space left" in outcome.said, outcome
    finally:
        subprocess.run(["umount", harness.output], check=True)
    require_resumed(harness)
