"""A kill, and an error of the system, at each operation on the files of the output folder."""

from __future__ import annotations

import errno
import random
import signal
from collections import defaultdict

import pytest
from faults.harness import ALL, require_no_lie, require_resumed

SOME = 1 if ALL else 30
"""Every how-manieth step is tried, with each fault others."""


def test_the_steps_are_those_of_parts_manifest_commit_and_markers(harness):
    predictions = harness.predictions.name
    for step in (
        "open .bsm/lock", "unlink _SUCCESS", "rename .bsm/plan.json", "write .bsm/parts/part-00000002.arrow",
        "fsync .bsm/parts/part-00000002.arrow", "fsync .bsm/parts", "write .bsm/manifest.jsonl",
        "fsync .bsm/manifest.jsonl", f"write .bsm/{predictions}", f"fsync .bsm/{predictions}", f"rename {predictions}",
        "rename _HEALTH", "rename _SUCCESS", "unlink .bsm/manifest.jsonl", "unlink .bsm/lock",
    ):  # fmt: skip
        assert step in harness.steps, harness.steps


FAULTS = {"SIGKILL": -signal.SIGKILL, "EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_step(harness, record_fault, fault):
    """After the fault, the next attempt is killed at some step too, and the one after that goes on."""
    chance = random.Random(7)
    harness.clear()
    seen = defaultdict(list)
    first = 1 + list(FAULTS).index(fault) * SOME // len(FAULTS)
    for nth in range(first, len(harness.steps) + 1, SOME):
        outcome = harness.run(nth, FAULTS[fault])
        require_no_lie(outcome, harness)
        if fault == "SIGKILL" or outcome.status:
            assert outcome.status == (-signal.SIGKILL if fault == "SIGKILL" else 1), (harness.steps[nth - 1], outcome)
        seen[outcome.last_line, " ".join(outcome.files)].append(harness.steps[nth - 1])
        require_no_lie(harness.run(chance.randrange(1, len(harness.steps)), -signal.SIGKILL), harness)
        require_resumed(harness)
        harness.clear()
    for (saw, left), steps in seen.items():
        record_fault(f"{fault} at {len(steps)} step(s): {', '.join(sorted(set(steps)))}", saw, left)
