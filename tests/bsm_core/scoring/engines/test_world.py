"""Runs in processes that torchrun or SLURM has started."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from support.processes import python
from support.toy import toy_rows
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from bsm_core.artifact.pretrained_files import downloads_allowed
from bsm_core.errors import ConfigError, DataError, EngineError, Interrupted, ModelFailedError, UsageError
from bsm_core.runtime.handout import present, received
from bsm_core.scoring.engines import ranks, world
from bsm_core.scoring.engines.devices import plan_world
from bsm_core.scoring.engines.trainer import DistributedUnavailableError, _Given
from bsm_core.scoring.engines.world import World
from bsm_core.scoring.job import _reason_of, with_shard
from bsm_core.scoring.output import shard as shards
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.shard import Shard
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
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": "2"}, World("SLURM", 3, 4, 1, 2)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_NODEID": "3"}, World("SLURM", 3, 4, 1, 1)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "1,3", "SLURM_NODEID": "1"}, World("SLURM", 3, 4, 1, 3)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "odd", "SLURM_NODEID": "1"}, World("SLURM", 3, 4, 1, 1)),
        ({**TORCHRUN, "CUDA_VISIBLE_DEVICES": "3"}, World("torchrun", 5, 8, 1, 4, True)),
        ({**TORCHRUN, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, World("torchrun", 5, 8, 1, 4)),
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


def test_a_process_that_is_lost_before_all_are_connected_is_an_error_soon(monkeypatch):
    """The second process comes to the store of the first one, and then nothing more is heard of it."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", free_port())

    def come():
        store, _, _ = next(rendezvous("env://", 1, 2, timeout=timedelta(seconds=10)))
        store.set("bsm-1", "here")
        return store

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(come)
        words = "the 2 processes of torchrun could not be connected"
        with (
            pytest.raises(EngineError, match=words),
            world.connected(World("torchrun", 0, 2, 0, 2), timedelta(seconds=1)),
        ):
            pass
        assert other.result()


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


def test_the_other_tasks_say_that_the_first_one_was_lost(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(1500).to_csv(run.data / "t.csv", index=False)
    with slurm(run) as (first, second):
        while not WorkFolder(run.out).rows_done() and first.poll() is None:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        said = second.communicate()[1]
    assert second.returncode == 1, said
    assert "the process that hands out the work has ended before all windows were scored" in said
    assert "see the log of that process, and run the same command again" in said
    assert "worker" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(None, (1, 1, 5, 4, 2)), (4, (1, 1, 5, 4, 2)), (1, (0, 5, 5, 1, 8))],
)
def test_a_process_that_sees_one_gpu_is_a_node_of_its_own(gpus, expected):
    given = _Given(World("torchrun", 5, 8, 1, 4), gpus)
    assert (given.local_rank(), given.node_rank(), given.global_rank(), given.processes, given.nodes) == expected
    assert given.world_size() == 8


@pytest.mark.parametrize(
    ("flags", "gpus", "accelerator"),
    [
        ({}, 4, "gpu"),
        ({}, 0, "cpu"),
        ({"device": "cpu"}, 4, "cpu"),
        ({"devices": 8}, 4, "gpu"),
        ({"device": 8}, 4, "gpu"),  # four on each of two hosts
        ({"device": (0, 2, 3), "accelerator": "cpu"}, 4, "cpu"),
    ],
)
def test_each_process_of_a_world_has_one_device(flags, gpus, accelerator):
    plan = plan_world(Settings(job_type="inference", **flags), World("torchrun", 5, 8, 1, 4), gpus)
    assert (plan.accelerator, plan.count, plan.count_here, plan.warning) == (accelerator, 8, 4, None)
    assert str(plan) == f"8 processes of torchrun on {accelerator.upper()}"


def test_a_world_without_the_gpus_that_are_asked_for_uses_the_cpu_with_a_warning():
    plan = plan_world(Settings(job_type="inference", device=8), World("torchrun", 5, 8, 1, 4), 0)
    assert (plan.accelerator, plan.warning) == ("cpu", "device=gpu asked for, 0 GPU(s) there: using 1 CPU process(es)")


@pytest.mark.parametrize(
    ("flags", "gpus", "said"),
    [
        ({"devices": 2}, 4, "contradict the 8 processes that torchrun has started"),
        ({"device": 3}, 4, "contradict the 8 processes that torchrun has started"),
        ({"device": (0, 2, 3)}, 4, "GPUs cannot be chosen by their ids"),
        ({}, 2, "4 processes on this host, which has 2 GPU"),
        ({}, 1, "4 processes on this host, which has 1 GPU"),
    ],
)
def test_devices_that_do_not_fit_the_world_are_refused(flags, gpus, said):
    with pytest.raises(UsageError, match=said):
        plan_world(Settings(job_type="inference", **flags), World("torchrun", 5, 8, 1, 4), gpus)


def test_each_process_may_see_one_gpu_alone():
    plan = plan_world(Settings(job_type="inference"), World("SLURM", 5, 8, 1, 4, has_own_gpu=True), 1)
    assert (plan.accelerator, plan.warning) == ("gpu", None)


def test_two_steps_of_a_job_use_two_ports():
    assert len({world.port_of({"SLURM_JOB_ID": "77", "SLURM_STEP_ID": str(step)}) for step in range(9)}) == 9


def test_a_step_without_numbers_has_a_port_too():
    assert world.port_of({"SLURM_JOB_ID": "", "SLURM_STEP_ID": "batch"}) == world.port_of({})


# Several tasks of a step of SLURM, in processes of the server


def tasks_of(run, *tasks, nodes="1(x2)", each=({}, {}), second="", **env):
    """Run the tasks of a step, each with its flags and variables; return what they have said.

    Args:
        second: Code that the second task runs first.
    """
    step = {"SLURM_STEP_NUM_TASKS": str(len(tasks)), "SLURM_STEP_TASKS_PER_NODE": nodes, "SLURM_LOCALID": "0"}
    step |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1", **env}

    def start(number):
        own = {"SLURM_PROCID": str(number), "SLURM_NODEID": str(number), **each[number]}
        words = arguments(run, *tasks[number])
        if number == 1 and second:
            words = ["-c", f"{second}\nimport sys\nfrom bsm_core.run import main\nsys.exit(main())", *words[2:]]
        return python(*words, env={**os.environ, **step, **own})

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(start, range(len(tasks))))


def test_tasks_of_a_step_share_the_work(run, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    one = run(device="cpu", window_rows=3).path.read_bytes()
    (run.out / "inference_predictions.csv").unlink()
    done = tasks_of(run, [], [])
    assert [task.returncode for task in done] == [0, 0], done
    assert (run.out / "inference_predictions.csv").read_bytes() == one


WRITES = """
import sys
from bsm_core.runtime import durable

def append(path, line):  # as on a network file system, when another host appends at the same time
    print("a line is lost", file=sys.stderr)

def store(path, content, real=durable.store):
    print("a part is written", file=sys.stderr)
    real(path, content)

durable.append, durable.store = append, store
"""


def test_the_first_task_alone_writes_the_manifest(run):
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, [], [], second=WRITES)
    assert "a part is written" in done[1].stderr
    assert "a line is lost" not in done[1].stderr
    assert [task.returncode for task in done] == [0, 0], done
    assert len((run.out / "inference_predictions.csv").read_text().splitlines()) == 41


BLOCKED = """
import socket

def connect(self, address, real=socket.socket.connect):
    if isinstance(address, tuple):
        raise ConnectionRefusedError(111, "Connection refused")
    real(self, address)

socket.socket.connect = connect
"""


def test_a_task_that_cannot_reach_the_first_one_is_named_in_the_failure(run):
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, [], [], second=BLOCKED)
    assert [task.returncode for task in done] == [1, 1]
    host = f"process 2 of 2 (rank 1), on host {socket.gethostname()}, could not reach the process that hands out"
    for said in (done[0].stderr, done[1].stderr, (run.out / "_FAILURE").read_text()):
        assert host in said
        assert "Connection refused" in said
        assert "Traceback" not in said
    assert "connect to port" in done[1].stderr


def test_an_error_of_the_first_task_ends_all(run):
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, ["--keep-columns", "nowhere"], ["--keep-columns", "nowhere"])
    assert [task.returncode for task in done] == [1, 1]
    assert "'nowhere'" in (run.out / "_FAILURE").read_text()
    assert not (run.out / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Interrupted(signal.SIGTERM), "DataError: line 14"),  # torchrun ends the first process when another has failed
        (RuntimeError("Connection closed by peer"), "DataError: line 14"),
        (DistributedUnavailableError("not connected"), "DataError: line 14"),
        (DataError("line 7"), "DataError: line 7"),
        (ModelFailedError("line 7"), "ModelFailedError: line 7"),
    ],
)
def test_the_failure_is_that_of_the_process_that_failed_first(monkeypatch, error, said):
    def score(job, plan, rank, address):
        with suppress(DataError), present(address, "another"):
            raise DataError("line 14")
        with pytest.raises(DataError):  # also says that the handout has read it
            deque(received(address))
        raise error

    monkeypatch.setattr(ranks, "score", score)
    monkeypatch.setattr(ranks, "share_cores", lambda processes: None)
    monkeypatch.setattr(ranks, "require_all", lambda: None)
    leader = SimpleNamespace(world=World("torchrun", 0, 2, 0, 2), tell=lambda job: None)
    job = SimpleNamespace(work=lambda plan: (number for number in itertools.count()), sink=SimpleNamespace(add=None))
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        ranks.lead(leader, job, None)
    assert _reason_of(caught.value) == said


def test_a_task_with_other_settings_is_named_in_the_failure(run):
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, [], ["--max-bad-rows", "3%", "--keep-columns", "extra"])
    assert [task.returncode for task in done] == [1, 1]
    host = f"process 2 of 2 (rank 1), on host {socket.gethostname()}, has other settings than the first one"
    for said in (done[0].stderr, done[1].stderr, (run.out / "_FAILURE").read_text()):
        assert host in said
        assert "setting max_bad_rows: was 50%, is 3%" in said
        assert "setting keep_columns" in said


def test_a_task_without_the_plugin_is_named_in_the_failure(run):
    toy_rows(40).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, [], [], each=({}, {"PYTHONPATH": ""}))
    assert [task.returncode for task in done] == [1, 1]
    for said in (done[0].stderr, done[1].stderr, (run.out / "_FAILURE").read_text()):
        assert "component model_class toy_model: is gone" in said


def test_an_error_of_the_first_task_before_the_job_is_that_of_all(run):
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, ["--resume", "require"], ["--resume", "require"])
    assert [task.returncode for task in done] == [1, 1]
    assert all("NothingToResumeError: --resume require: there is nothing to resume" in task.stderr for task in done)
    done = tasks_of(run, ["--window-rows", "4"], ["--window-rows", "4"], each=({}, {"PYTHONPATH": ""}))
    assert [task.returncode for task in done] == [1, 1]


def test_tasks_that_are_spread_unevenly_score_one_shard_together(run):
    for name in "abc":
        toy_rows(20).to_csv(run.data / f"{name}.csv", index=False)
    one = run(device="cpu", window_rows=3, shard="0/2", output_dir=run.out.parent / "one")
    places = (
        {"SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
        {"SLURM_LOCALID": "1", "SLURM_NODEID": "0"},
        {"SLURM_NODEID": "1"},
    )
    done = tasks_of(run, [], [], [], nodes="2,1", each=places, SHARD="0/2")
    assert [task.returncode for task in done] == [0, 0, 0], done
    assert (run.out / one.path.name).read_bytes() == one.path.read_bytes()
    assert "_SUCCESS-00000" in {path.name for path in run.out.iterdir()}


def test_each_task_with_a_shard_of_its_own_is_an_error(run):
    toy_rows(4).to_csv(run.data / "t.csv", index=False)
    done = tasks_of(run, ["--shard", "0/2"], ["--shard", "1/2"])
    assert [task.returncode for task in done] == [1, 1]
    assert "setting shard: was [0, 2, False, ''], is [1, 2, False, '']" in (run.out / "_FAILURE-00000").read_text()


@pytest.mark.parametrize("rank", [0, 5])
def test_ray_in_a_world_is_refused(run, rank):
    run.out.mkdir()
    with pytest.raises(UsageError, match="--engine ray in one of the 8 processes that torchrun has started"):
        run(env={**TORCHRUN, "RANK": str(rank), "ID_FIELD": "id"}, engine="ray")
    assert (run.out / "_FAILURE").exists() is (rank == 0)


def test_the_shards_of_containers_are_not_those_of_a_world_on_their_hosts(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CONFIG", tmp_path)
    settings = Settings(job_type="inference", data_dir=run.data)
    (tmp_path / "resourceconfig.json").write_text('{"current_host": "b", "hosts": ["a", "b"]}')
    assert with_shard(settings, World("torchrun", 1, 2, 1, 2)).shard == Shard(1, 2)
    assert with_shard(settings, World("torchrun", 1, 2, 0, 1)).shard is None
    source = {"LocalPath": str(run.data), "S3DataDistributionType": "ShardedByS3Key"}
    (tmp_path / "processingjobconfig.json").write_text(json.dumps({"ProcessingInputs": [{"S3Input": source}]}))
    with pytest.raises(ConfigError, match="several hosts, each of which has files of its own"):
        with_shard(settings, World("torchrun", 1, 2, 0, 1))


def test_another_process_may_ask_the_hub_if_the_first_may(run, monkeypatch):
    asked = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(ranks, "share_cores", lambda processes: None)

    def connected(world):
        asked.append(downloads_allowed())
        raise ConnectionError

    monkeypatch.setattr(ranks, "connected", connected)
    for allowed in (False, True):
        with pytest.raises(ConnectionError):
            ranks.follow(Settings(job_type="inference", allow_downloads=allowed), World("torchrun", 1, 2, 1, 2))
    assert asked == [False, True]
