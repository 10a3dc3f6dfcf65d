"""The files of ``examples/scale`` are what the services take, and the commands in them are commands of bsm."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore import session
from botocore.validate import validate_parameters

from bsm_core.cli.command_parser import CommandParser
from bsm_core.cli.commands import run_command

FOLDER = Path(__file__).parents[2] / "examples" / "scale"
JSON = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*-job.json")}


def machine() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "state-machine.json").read_text())
    return content["States"][content["StartAt"]]


def commands() -> Iterator[str]:
    job = JSON["processing-job"]["AppSpecification"]
    yield shlex.join([*job["ContainerEntrypoint"], *job["ContainerArguments"]])
    yield JSON["batch-array-job"]["containerOverrides"]["command"][-1].partition("; ")[2]
    yield yaml.safe_load((FOLDER / "ray-job.yaml").read_text())["spec"]["entrypoint"]
    _, _, srun = (FOLDER / "slurm.sh").read_text().partition(" --kill-on-bad-exit ")
    yield srun.replace("\\\n", " ")


@pytest.mark.parametrize("command", [*commands()])
def test_the_commands_are_commands_of_bsm(command):
    python, flag, module, *flags = shlex.split(command)
    assert (python, flag, module) == ("python", "-m", "bsm_core.run")
    parser = CommandParser()
    run_command.add_flags(parser)
    arguments = parser.parse_args(flags)
    assert arguments.job_type == "inference"
    assert arguments.id_field == "id"


@pytest.mark.parametrize(
    ("name", "service", "operation"),
    [
        ("processing-job", "sagemaker", "CreateProcessingJob"),
        ("batch-array-job", "batch", "SubmitJob"),
        ("batch-merge-job", "batch", "SubmitJob"),
    ],
)
def test_the_services_take_the_jobs(name, service, operation):
    shape = session.get_session().get_service_model(service).operation_model(operation).input_shape
    validate_parameters(JSON[name], shape)


def called(parameters: Any) -> Any:
    """Return the parameters that the state machine passes for a day."""
    if isinstance(parameters, list):
        return [called(each) for each in parameters]
    if not isinstance(parameters, dict):
        return parameters
    day = {"$.day": "2026-01-31", "States.UUID()": "2026-01-31"}
    found = {}
    for name, value in parameters.items():
        if name.endswith(".$"):
            text, argument = re.fullmatch(r"States\.Format\('(.*)', (.*)\)", value).groups()
            found[name.removesuffix(".$")] = text.format(day[argument])
        else:
            found[name] = called(value)
    return found


def test_the_state_machine_runs_the_processing_job():
    assert machine()["Resource"] == "arn:aws:states:::sagemaker:createProcessingJob.sync"
    assert called(machine()["Parameters"]) == JSON["processing-job"]


def test_the_shards_go_into_the_folder_that_is_merged():
    merge = JSON["batch-merge-job"]["containerOverrides"]["command"]
    score = shlex.split([*commands()][1])
    assert merge == ["bsm", "merge", score[score.index("--output-dir") + 1]]


def test_ray_takes_the_cluster():
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())))


def test_the_versions_of_ray_are_one():
    version = yaml.safe_load((FOLDER / "ray-job.yaml").read_text())["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"ray=={version}" in (FOLDER.parents[1] / "requirements.txt").read_text().splitlines()
    assert f"'ray[default]=={version}'" in (FOLDER / "Dockerfile").read_text()


@pytest.mark.parametrize("program", ["openssh-client", "rsync", "wget"])
def test_the_image_has_the_programs_of_ray_up_and_kuberay(program):
    [install] = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if "apt-get install" in line]
    assert program in install.split()
