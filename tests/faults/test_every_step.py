"""A kill, and an error of the system, at each operation on the files of the output folder."""

from __future__ import annotations

import errno
import signal

import pytest
from faults.harness import ALL, require_no_lie, require_resumed

SOME = 1 if ALL else 7
"""Every how-manieth step is tried."""


def test_the_steps_are_those_of_parts_manifest_commit_and_markers(harness):
    predictions = harness.predictions.name
    for step in (
        "open .bsm/lock", "unlink _SUCCESS", "rename .bsm/plan.json", "write .bsm/parts/part-00000002.arrow",
        "fsync .bsm/parts/part-00000002.arrow", "fsync .bsm/parts", "write .bsm/manifest.jsonl",
        "fsync .bsm/manifest.jsonl", f"write .bsm/{predictions}", f"fsync .bsm/{predictions}", f"rename {predictions}",
        "rename _HEALTH", "rename _SUCCESS", "unlink .bsm/manifest.jsonl", "unlink .bsm/lock",
    ):  # fmt: skip
        assert step in harness.steps, harness.steps


def test_a_kill_at_a_step(harness):
    harness.clear()
    for nth in range(1, len(harness.steps) + 1, SOME):
        outcome = harness.run(nth, -signal.SIGKILL)
        assert outcome.status == -signal.SIGKILL, (nth, outcome)
        require_no_lie(outcome, harness)
        require_resumed(harness)
        harness.clear()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_an_error_at_a_step(harness, error):
    harness.clear()
    for nth in range(1, len(harness.steps) + 1, SOME):
        outcome = harness.run(nth, error)
        require_no_lie(outcome, harness)
        if outcome.status:
            assert outcome.status == 1, (nth, harness.steps[nth - 1], outcome)
        require_resumed(harness)
        harness.clear()
