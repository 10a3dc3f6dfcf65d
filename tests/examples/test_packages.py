"""The example packages: as short as they promise, and what their wheels hold keeps the contract."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import python

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = {"bsm-hello": 10, "bsm-late-fusion": 60}
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
OFFLINE = ["--no-build-isolation", "--no-index", "--no-deps"]

both = pytest.mark.parametrize("name", MOST_LINES)


@both
def test_it_is_short(name):
    modules = [file for file in (EXAMPLES / name).rglob("*.py") if not file.name.startswith("test_")]
    assert sum(len(file.read_text().splitlines()) for file in modules) <= MOST_LINES[name]


@both
def test_its_wheel_passes_its_tests(name, tmp_path):
    site = tmp_path / "site"
    subprocess.run([*PIP, *OFFLINE, "--target", str(site), str(EXAMPLES / name)], check=True)
    (distribution,) = importlib.metadata.distributions(path=[str(site)])
    module = name.replace("-", "_")
    shipped = {file.name for file in distribution.files or () if file.suffix == ".py"}
    assert shipped == {f"{module}.py"}
    (tests,) = (EXAMPLES / name).glob("test_*.py")
    copy = tmp_path / tests.name  # away from the sources
    copy.write_text(tests.read_text())
    environment = {**os.environ, "PYTHONPATH": str(site), "BSM_PLUGINS": name}
    done = python("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", copy, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert not [line for line in skipped if "GPU" not in line]
