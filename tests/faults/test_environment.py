"""Faults of the machine: too little memory, a stopped process, a removed folder, a small disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from faults.harness import ALL, require_no_lie, require_resumed


def start(harness, *more, limit=""):
    """Start the command in an interpreter of its own."""
    environment = {**os.environ, **harness.environment, "OMP_NUM_THREADS": "1"}
    command = ["sh", "-c", f'{limit}exec "$@"', "sh", sys.executable, "-B", "-m", "bsm_core.run"]
    command += harness.arguments(*more)
    said = (harness.work / "said").open("w")
    return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def stop(process):
    """Stop a process, and wait until it has stopped."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def end(harness, process):
    """Wait for the end of a process; return its outcome."""
    status = process.wait(120)
    return harness.outcome(status, (harness.work / "said").read_text())


def test_a_process_that_is_stopped_and_continued(harness, record_fault):
    harness.clear()
    process = start(harness)
    while not (harness.output / ".bsm" / "plan.json").exists() and process.poll() is None:
        pass
    stop(process)
    process.send_signal(signal.SIGCONT)
    outcome = end(harness, process)
    assert outcome.status == 0, outcome
    assert harness.written() == harness.expected
    record_fault("SIGSTOP, then SIGCONT", outcome.last_line, " ".join(outcome.files))


@pytest.mark.parametrize("change", ["truncated", "replaced"])
def test_the_input_changes_halfway(harness, record_fault, change):
    """The next run is one of the input as it was: its files are put back with their time."""
    harness.clear()
    kept = harness.work / "kept.csv"
    shutil.copy2(harness.data, kept)
    process = start(harness)
    while not (harness.output / ".bsm" / "plan.json").exists() and process.poll() is None:
        pass
    stop(process)
    if change == "truncated":
        os.truncate(harness.data, 100)
    else:
        kept.with_suffix(".new").write_bytes(kept.read_bytes().replace(b"hello", b"howdy"))
        kept.with_suffix(".new").rename(harness.data)
    process.send_signal(signal.SIGCONT)
    outcome = end(harness, process)
    shutil.copy2(kept, harness.data)
    require_no_lie(outcome, harness)
    assert outcome.status == 1, outcome
    assert str(harness.data) in outcome.said
    record_fault(f"the input is {change}", outcome.last_line, " ".join(outcome.files))
    require_resumed(harness)


@pytest.mark.parametrize("megabytes", [600, 1100, 1300, 1500] if ALL else [1100])
def test_too_little_memory(harness, record_fault, megabytes):
    harness.clear()
    outcome = end(harness, start(harness, limit=f"ulimit -v {megabytes << 10} && "))
    require_no_lie(outcome, harness)
    if outcome.status:
        assert outcome.status == 1, outcome
        assert outcome.failure, outcome
    record_fault(f"{megabytes} MB of address space", outcome.last_line, " ".join(outcome.files))
    require_resumed(harness)


def test_the_output_folder_is_removed_during_the_run(harness, record_fault):
    harness.clear()
    process = start(harness)
    while not (harness.output / ".bsm" / "plan.json").exists() and process.poll() is None:
        pass
    while harness.output.exists():  # the run may write a file into a folder that is being removed
        shutil.rmtree(harness.output, ignore_errors=True)
    outcome = end(harness, process)
    assert outcome.status == 1, outcome
    require_no_lie(outcome, harness)
    record_fault("the output folder is removed", outcome.last_line, " ".join(outcome.files))
    require_resumed(harness)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount a small disk")
def test_a_small_disk(harness, record_fault):
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
        record_fault("a disk of 12 kB", outcome.last_line, " ".join(outcome.files))
    finally:
        subprocess.run(["umount", harness.output], check=True)
    require_resumed(harness)
