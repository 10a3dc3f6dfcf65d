"""The Dockerfile: what it builds from the checkout, and its entry point as another user. No Docker is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from support.mounts import in_container

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests/data/goldens"
USER = 10001

pytestmark = pytest.mark.checkout


def instructions() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, with their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "\n")
    stages: list[list[tuple[str, str]]] = []
    for found in re.finditer(r"^([A-Z]+) +(.*(?:\n +.*)*)", text, re.MULTILINE):
        if found[1] == "FROM":
            stages.append([])
        stages[-1].append((found[1], found[2]))
    return stages


BUILD, IMAGE = instructions()


def arguments(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [value for name, value in stage if name == instruction]


def copied(stage: list[tuple[str, str]]) -> dict[str, str]:
    """Return where each file or folder of the checkout is copied to."""
    commands = [shlex.split(value) for value in arguments(stage, "COPY") if not value.startswith("--from=")]
    return {source: words[-1] for words in commands for source in words[:-1]}


def test_the_image_is_slim_and_its_user_is_not_root():
    assert all(re.match(r"python:3\.\d+-slim( AS build)?$", arguments(stage, "FROM")[0]) for stage in (BUILD, IMAGE))
    assert arguments(IMAGE, "USER") == [f"{USER}:{USER}"]
    assert "HF_HUB_OFFLINE=1" in arguments(IMAGE, "ENV")


def test_the_image_has_no_model():
    assert list(copied(IMAGE)) == ["scripts/pytorch_model_inference.py"]
    assert not any(name.startswith(("examples", "tests")) for name in copied(BUILD))


@pytest.mark.parametrize(
    ("index", "options"), [("https://torch.example/cpu", ["--index-url", "https://torch.example/cpu"]), ("", [])]
)
def test_one_argument_chooses_the_build_of_torch(tmp_path, index, options):
    assert arguments(BUILD, "ARG") == ["TORCH_INDEX"]
    done = install_torch(tmp_path, index)
    (torch,) = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch==")]
    assert done.stdout.split() == ["install", "--no-cache-dir", *options, torch]


def install_torch(folder: Path, index: str) -> subprocess.CompletedProcess[str]:
    """Run the build's command with a pip that prints its arguments."""
    (folder / "pip").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "pip").chmod(0o755)
    (command,) = [value for value in arguments(BUILD, "RUN") if "TORCH_INDEX" in value]
    env = {"TORCH_INDEX": index, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_what_the_image_copies_is_sent_to_the_builder_and_is_all_that_a_wheel_needs(tmp_path):
    everything, *rules = [r for r in (ROOT / ".dockerignore").read_text().splitlines() if not r.startswith("#")]
    assert (everything, rules[-1]) == ("*", "**/__pycache__")
    sent = [rule.removeprefix("!") for rule in rules[:-1]]
    assert {name.partition("/")[0] for stage in (BUILD, IMAGE) for name in copied(stage)} == {*sent}
    sent = list(copied(BUILD))
    for name in sent:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = [name for name in sent if name.startswith("bsm_")]
    assert names == {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# The entry point, with the folders of the contract


@pytest.fixture
def container(tmp_path):
    """Runs the entry point in folders as SageMaker mounts them, without a home folder; the inputs are read-only."""
    model, data, out = (tmp_path / name for name in ("model", "data", "out"))
    for folder in (model, data, out):
        folder.mkdir()
    with tarfile.open(model / "model.tar.gz", "w:gz") as archive:
        archive.add(GOLDENS / "bimodal_bert/model", ".")
    shutil.copy(GOLDENS / "golden.csv", data)
    ((script, folder),) = copied(IMAGE).items()
    processing = "/opt/ml/processing"
    seen = {
        "/opt/venv": Path(sys.prefix),
        f"{folder}{Path(script).name}": ROOT / script,
        f"{processing}/input/model": model,
        f"{processing}/input/inference_data": data,
    }

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        start = in_container(USER, seen, {f"{processing}/output/predictions": out})
        image = dict(value.split("=", 1) for value in arguments(IMAGE, "ENV"))
        image["PATH"] = image["PATH"].replace("$PATH", "/usr/bin:/bin")
        variables = {**image, "HOME": "/home/nobody-has-made-it", **variables}
        words = [*json.loads(arguments(IMAGE, "ENTRYPOINT")[0]), *(command or json.loads(arguments(IMAGE, "CMD")[0]))]
        env = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run([*start, *env, *words], capture_output=True, text=True, check=False)

    run.out = out
    return run


def test_the_entry_point_as_another_user_without_a_home_folder(container):
    os.chown(container.out, USER, USER)
    done = container(ID_FIELD="order_id")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "denied" not in done.stderr
    assert {path.name: path.stat().st_uid for path in container.out.iterdir()} == dict.fromkeys(
        ("_HEALTH", "_SUCCESS", "inference_predictions.csv"), USER
    )
    got = pd.read_csv(container.out / "inference_predictions.csv", dtype={"order_id": str}, keep_default_na=False)
    want = pd.read_parquet(GOLDENS / "bimodal_bert/expected.parquet")
    assert got["order_id"].tolist() == want["order_id"].tolist()
    assert (got.iloc[:, 1:] - want.iloc[:, 1:]).abs().to_numpy().max() < 1e-5


def test_an_output_folder_of_root_is_an_error_that_names_it(container):
    done = container("--job_type", "inference", ID_FIELD="order_id")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "could not be written: Permission denied (/opt/ml/processing/output/predictions" in done.stderr
    assert not list(container.out.iterdir())
