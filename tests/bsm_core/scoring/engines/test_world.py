"""Runs in processes that torchrun or SLURM has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
import torch
from support.toy import toy_rows
from torch import distributed

from bsm_core.errors import EngineError, UsageError
from bsm_core.scoring.engines import world
from bsm_core.scoring.engines.devices import plan_world
from bsm_core.scoring.engines.trainer import _Given
from bsm_core.scoring.engines.world import World
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.settings import Settings

TORCHRUN = {"TORCHELASTIC_RUN_ID": "7", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


@pytest.mark.parametrize(
    ("env", "world"),
    [
        (TORCHRUN, World("torchrun", 5, 8, 1, 4)),
        (SLURM, World("SLURM", 3, 4, 1, 2)),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, None),  # a batch script, without srun
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({}, None),
    ],
)
def test_the_variables_say_who_has_started_the_process(env, world):
    assert World.of(env) == world


def arguments(run, *more):
    places = ["--model-dir", run.artifact, "--data-dir", run.data, "--output-dir", run.out, "--id-field", "id"]
    words = ["-m", "bsm_core.run", "--job_type", "inference", *places, "--device", "cpu", "--window-rows", "3", *more]
    return [str(word) for word in words]


def torchrun(run, *more):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments(run, *more)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_torchrun_gives_the_bytes_of_one_process(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    one = run(device="cpu", window_rows=3).path.read_bytes()
    (run.out / "inference_predictions.csv").unlink()
    done = torchrun(run, "--run-record")
    assert done.returncode == 0, done.stderr
    assert (run.out / "inference_predictions.csv").read_bytes() == one
    assert "2 processes of torchrun on CPU" in (run.out / "run.json").read_text()
    assert done.stderr.count("predictions: ") == 1


def test_an_error_of_the_first_process_ends_all(run):
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    done = torchrun(run, "--keep-columns", "nowhere")
    assert done.returncode != 0
    assert "'nowhere'" in (run.out / "_FAILURE").read_text()
    assert not (run.out / "_SUCCESS").exists()


def test_an_error_of_another_process_ends_all(run):
    rows = toy_rows(40)
    rows.loc[38, "chat"] = "KILL"
    rows.to_csv(run.data / "t.csv", index=False)
    done = torchrun(run)
    assert done.returncode != 0
    assert not (run.out / "_SUCCESS").exists()
    assert "Signal 9 (SIGKILL)" in done.stderr


def test_processes_that_do_not_come_together_are_an_error_soon(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", free_port())
    monkeypatch.setattr(world, "MEET", timedelta(seconds=0.2))
    words = "the 2 processes of torchrun could not be connected"
    with pytest.raises(EngineError, match=words), world.connected(World("torchrun", 0, 2, 0, 2)):
        pass


def test_processes_that_have_come_together_may_wait_for_days(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", free_port())
    with world.connected(World("torchrun", 0, 1, 0, 1)):
        group = distributed.distributed_c10d._get_default_group()
        assert group._get_backend(torch.device("cpu")).options._timeout > timedelta(days=300)
        assert world.shared(7) == 7


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@contextmanager
def slurm(run, *more):
    """Two tasks of a step, on two hosts that are both this machine: the work is handed out over TCP."""
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
        "SLURM_NTASKS": "2",
    }
    step |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "SLURM_JOB_NAME": "scoring"}
    tasks = [
        subprocess.Popen(
            [sys.executable, *arguments(run, *more)],
            env={**os.environ, **step, "SLURM_PROCID": str(number), "SLURM_NODEID": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    yield tasks
    for task in tasks:
        task.kill()
        task.wait()


def test_tasks_of_a_slurm_step_share_the_work(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    one = run(device="cpu", window_rows=3).path.read_bytes()
    (run.out / "inference_predictions.csv").unlink()
    with slurm(run) as tasks:
        said = [task.communicate()[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert (run.out / "inference_predictions.csv").read_bytes() == one


def test_a_task_that_is_lost_is_named_and_the_same_command_goes_on(run, monkeypatch):
    """SLURM lets the other tasks of a step run on when one has ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(1500).to_csv(run.data / "t.csv", index=False)
    with slurm(run) as (first, second):
        while not WorkFolder(run.out).rows_done() and first.poll() is None:
            time.sleep(0.01)
        second.send_signal(signal.SIGKILL)
        said = first.communicate()[1]
    assert first.returncode == 1, said
    assert f"process 2 of 2 (rank 1), on host {socket.gethostname()}, has ended" in (run.out / "_FAILURE").read_text()
    assert run(device="cpu", window_rows=3, resume="require").rows == 1500


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(None, (1, 1, 5, 4, 2)), (4, (1, 1, 5, 4, 2)), (1, (0, 5, 5, 1, 8))],
)
def test_a_process_that_sees_one_gpu_is_a_node_of_its_own(gpus, expected):
    given = _Given(World("torchrun", 5, 8, 1, 4), gpus)
    assert (given.local_rank(), given.node_rank(), given.global_rank(), given.processes, given.nodes) == expected
    assert given.world_size() == 8


@pytest.mark.parametrize(("flags", "accelerator"), [({}, "gpu"), ({"device": "cpu"}, "cpu"), ({"devices": 8}, "gpu")])
def test_each_process_of_a_world_has_one_device(flags, accelerator):
    plan = plan_world(Settings(job_type="inference", **flags), World("torchrun", 5, 8, 1, 4), 4)
    assert (plan.accelerator, plan.count, plan.count_here) == (accelerator, 8, 4)
    assert str(plan) == f"8 processes of torchrun on {accelerator.upper()}"


@pytest.mark.parametrize("flags", [{"devices": 2}, {"device": 3}])
def test_another_number_of_devices_is_refused(flags):
    with pytest.raises(UsageError, match="contradict the 8 processes that torchrun has started"):
        plan_world(Settings(job_type="inference", **flags), World("torchrun", 5, 8, 1, 4), 4)
