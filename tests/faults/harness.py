"""Real runs that meet faults, and what must hold after each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PREDICTIONS = "inference_predictions"
EARLIER = "of an earlier run"
ALL = os.environ.get("FAULTS") == "all"
"""Whether every step is tried (``make faults``), or some of them (``make test``)."""


def build(folder: Path) -> Path:
    """Compile the fault library."""
    library = folder / "faults.so"
    source = HERE / "faults.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@dataclass
class Outcome:
    """Result of a run.

    Attributes:
        status: Exit status; negative for a signal.
        said: Standard output and standard error.
        steps: Operations on files below the output folder, in order, as ``operation path``.
        files: Files in the output folder.
        failure: Text of ``_FAILURE``; empty if there is none.
    """

    status: int
    said: str
    steps: list[str]
    files: list[str]
    failure: str

    @property
    def last_line(self) -> str:
        """The error that the user saw, else the last line, without times and folders."""
        lines = self.said.strip().splitlines() or [""]
        line = next((line for line in lines if "Error: " in line), lines[-1])
        return re.sub(r"^\d\S+ |/\S*/", "", line)


class Driver:
    """Process that runs commands of bsm in forks, each with a fault or without.

    Args:
        work: Folder for the files of the driver.
        environment: Variables of the process.
        modules: Names of the modules that the process imports, so that the commands need not.
    """

    def __init__(self, work: Path, environment: dict[str, str], *modules: str) -> None:
        self._log, self._said = work / "steps", work / "said"
        library = build(work)
        environment = {**os.environ, **environment, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-B", HERE / "driver.py", library, *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip

    def run(self, arguments: list[str], folder: Path, nth: int = 0, action: int = 0) -> tuple[int, str, list[str]]:
        """Run a command; return its status, what it said, and the operations on files below the folder.

        Args:
            arguments: Arguments of ``bsm``.
            folder: The folder.
            nth: Number of the operation that fails; 0 for none.
            action: Error number of the failure, or a signal with a minus sign.
        """
        self._log.unlink(missing_ok=True)
        order = {"arguments": arguments, "nth": nth, "action": action}
        order |= {"folder": str(folder), "log": str(self._log), "output": str(self._said)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        return status, self._said.read_text(), self._log.read_text().splitlines() if self._log.exists() else []

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Harness:
    """Runs of one artifact on one table.

    Attributes:
        model: The artifact.
        data: The input table.
        work: Folder for everything that the harness writes.
        format: Format of the predictions.
        window_rows: Rows of a window.
    """

    model: Path
    data: Path
    work: Path
    format: str = "csv"
    window_rows: int = 8
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        self._driver = Driver(self.work, self.environment, "bsm_core.scoring.attempt")
        self.expected: list[bytes] = []
        self.clear()
        whole = self.run()
        assert whole.status == 0, whole.said
        self.expected = self.written()
        self.steps = whole.steps

    @property
    def output(self) -> Path:
        """The output folder of all runs."""
        return self.work / "out"

    @property
    def predictions(self) -> Path:
        """The prediction file."""
        return self.output / f"{PREDICTIONS}.{self.format}"

    @property
    def issues(self) -> Path:
        """The row-issues file."""
        return self.output / f"issues.{self.format}"

    def written(self) -> list[bytes]:
        """Return the bytes of the predictions and of the row issues."""
        return [path.read_bytes() for path in (self.predictions, self.issues)]

    def arguments(self, *more: str) -> list[str]:
        """Return the arguments of the command."""
        places = ["--model-dir", self.model, "--data-dir", self.data, "--output-dir", self.output]
        shape = ["--output-format", self.format, "--window-rows", self.window_rows, "--device", "cpu"]
        shape += ["--run-record", "--row-issues", self.issues]
        return [str(a) for a in ("--job_type", "inference", "--id-field", "id", *places, *shape, *more)]

    def run(self, nth: int = 0, action: int = 0) -> Outcome:
        """Run the command.

        Args:
            nth: Number of the operation that fails; 0 for none.
            action: Error number of the failure, or a signal with a minus sign.
        """
        return self.outcome(*self._driver.run(["run", *self.arguments()], self.output, nth, action))

    def outcome(self, status: int, said: str, steps: list[str] | None = None) -> Outcome:
        """Return the outcome of a run that has ended."""
        files = sorted(path.name for path in self.output.iterdir()) if self.output.is_dir() else []
        failure = self.output / "_FAILURE"
        return Outcome(status, said, steps or [], files, failure.read_text() if failure.is_file() else "")

    def clear(self) -> None:
        """Leave an output folder with what an earlier run of other data wrote."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir()
        for path in (
            self.predictions,
            self.issues,
            *(self.output / name for name in ("_SUCCESS", "_HEALTH", "run.json")),
        ):
            path.write_text(EARLIER)

    def close(self) -> None:
        """End the process that forks the runs."""
        self._driver.close()


def require_no_lie(outcome: Outcome, harness: Harness) -> None:
    """Check that a marker says no more than what is true, and that an error is one for people."""
    if "_SUCCESS" in outcome.files:
        assert "_FAILURE" not in outcome.files
        earlier = (harness.output / "_SUCCESS").read_text() == EARLIER
        assert harness.written() == ([EARLIER.encode()] * 2 if earlier else harness.expected), outcome
    if outcome.status == 1:
        assert "Traceback" not in outcome.said, outcome.said
        assert "Error: " in outcome.said, outcome.said


def require_resumed(harness: Harness) -> Outcome:
    """Check that the same command again writes the bytes of an undisturbed run, and leaves nothing else."""
    again = harness.run()
    assert again.status == 0, again.said
    assert harness.written() == harness.expected
    record = json.loads((harness.output / "run.json").read_text())
    assert sum(attempt["rows"] for attempt in record["attempts"]) == record["rows"]
    assert again.files == sorted(["_HEALTH", "_SUCCESS", "run.json", harness.predictions.name, harness.issues.name]), (
        again
    )
    return again
