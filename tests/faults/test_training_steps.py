"""A kill, and an error of the system, at each operation on the files of a training job."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections import defaultdict

import pytest
from faults.harness import ALL, Driver
from support.toy import SITE
from support.training import CONFIG, files, labelled_rows

SOME = 1 if ALL else 120
"""Every how-manieth step is tried, with each fault others."""
FAULTS = {"SIGKILL": -signal.SIGKILL, "EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


class TrainingJobs:
    """Training jobs of one config on one table, each with a fault or without."""

    def __init__(self, folder, *, filled):
        self.jobs, self.filled = folder / "jobs", filled
        self.output = self.jobs / "model"
        labelled_rows().to_csv(folder / "t.csv", index=False)
        config = {**CONFIG, "max_epochs": 2, "loggers": ["csv"], **({} if filled else {"folds": 2})}
        (folder / "config.json").write_text(json.dumps(config))
        self._arguments = ["train", "--config", folder / "config.json", "--data", folder / "t.csv"]
        self._arguments += ["--output", self.output, "--accelerator", "cpu"]
        self._driver = Driver(folder, {"PYTHONPATH": str(SITE)}, "bsm_core.training")
        self.clear()
        status, said, self.steps = self.run()
        assert status == 0, said
        self.expected = files(self.jobs)

    def run(self, nth=0, action=0):
        """Run the command; see the driver."""
        return self._driver.run(list(map(str, self._arguments)), self.jobs, nth, action)

    def clear(self):
        """Leave an empty output folder, or none."""
        shutil.rmtree(self.jobs, ignore_errors=True)
        (self.output if self.filled else self.jobs).mkdir(parents=True)

    def close(self):
        """End the process that forks the jobs."""
        self._driver.close()


@pytest.fixture(scope="module", params=[False, True] if ALL else [True])
def jobs(request, tmp_path_factory):
    """Jobs with folds that make a new folder, or jobs without them that fill one that is there."""
    made = TrainingJobs(tmp_path_factory.mktemp("training"), filled=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_a_step_of_training(jobs, record_fault, fault):
    """After the fault, the same command finishes the job, with the files of an undisturbed one."""
    seen = defaultdict(list)
    first = 1 + list(FAULTS).index(fault) * SOME // len(FAULTS)
    for nth in range(first, len(jobs.steps) + 1, SOME):
        step = jobs.steps[nth - 1]
        jobs.clear()
        status, said, _ = jobs.run(nth, FAULTS[fault])
        if fault == "SIGKILL":
            assert status == -signal.SIGKILL, (step, said)
        elif status:
            assert status == 1, (step, said)
            assert "Traceback" not in said, (step, said)
            assert "Error: " in said, (step, said)
        seen[next((line for line in said.splitlines() if "Error: " in line), "").partition("(")[0]].append(step)
        status, said, _ = jobs.run()
        if status == 2:  # the fault came when all was done
            assert "the output already exists" in said, (step, said)
            shutil.rmtree(jobs.jobs / ".model.training", ignore_errors=True)
        else:
            assert status == 0, (step, said)
        assert files(jobs.jobs) == jobs.expected, step
    for saw, steps in seen.items():
        record_fault(f"{fault} at {len(steps)} step(s): {', '.join(sorted(set(steps)))}", saw)
