from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core import Settings
from bsm_core.scoring.engines.devices import DevicePlan, loader_workers, plan_devices

CPU = ("cpu", (0,))


def plan(gpus, **settings):
    return plan_devices(Settings(job_type="inference", **settings), gpus)


def gpu(*ids):
    return ("gpu", ids)


# DEVICE, then what is used with 0, 1, 2 and 4 GPUs
TABLE = {
    "auto": [CPU, gpu(0), gpu(0, 1), gpu(0, 1, 2, 3)],
    "cpu": [CPU, CPU, CPU, CPU],
    "gpu": [CPU, gpu(0), gpu(0), gpu(0)],
    "cuda": [CPU, gpu(0), gpu(0), gpu(0)],
    "1": [CPU, gpu(0), gpu(0), gpu(0)],
    "2": [CPU, gpu(0), gpu(0, 1), gpu(0, 1)],
    "4": [CPU, gpu(0), gpu(0, 1), gpu(0, 1, 2, 3)],
    "1000000000000": [CPU, gpu(0), gpu(0, 1), gpu(0, 1, 2, 3)],
    "[0]": [CPU, gpu(0), gpu(0), gpu(0)],
    "[1]": [CPU, gpu(0), gpu(1), gpu(1)],
    "[2,0]": [CPU, gpu(0), gpu(0), gpu(2, 0)],
    "[0,2,3]": [CPU, gpu(0), gpu(0), gpu(0, 2, 3)],
    "[7,8]": [CPU, gpu(0), gpu(0), gpu(0)],
}
# Where that is less than was asked for
LESS = {
    *(("gpu", 0), ("cuda", 0), ("1", 0), ("2", 0), ("2", 1), ("4", 0), ("4", 1), ("4", 2)),
    *(("1000000000000", gpus) for gpus in (0, 1, 2, 4)),
    *(("[0]", 0), ("[1]", 0), ("[1]", 1), ("[2,0]", 0), ("[2,0]", 1), ("[2,0]", 2)),
    *(("[0,2,3]", 0), ("[0,2,3]", 1), ("[0,2,3]", 2), *(("[7,8]", gpus) for gpus in (0, 1, 2, 4))),
}


@pytest.mark.parametrize("index", range(4), ids=["0 GPUs", "1 GPU", "2 GPUs", "4 GPUs"])
@pytest.mark.parametrize("device", TABLE)
def test_the_contracts_table(device, index):
    gpus = [0, 1, 2, 4][index]
    got = plan(gpus, device=device)
    assert (got.accelerator, got.ids) == TABLE[device][index]
    assert (got.warning is not None) == ((device, gpus) in LESS)
    assert got.count == len(got.ids)
    assert plan(gpus, device=device, accelerator="cpu") == DevicePlan("cpu", (0,))  # which beats DEVICE


def test_the_warning_says_what_was_asked_for_what_is_there_and_what_is_used():
    assert plan(1, device="[0,2]").warning == "device=[0, 2] asked for, 1 GPU(s) there: using GPU [0]"
    assert plan(0, device="4").warning == "device=4 asked for, 0 GPU(s) there: using 1 CPU process(es)"
    assert plan(2, devices=3).warning == "devices=3 asked for, 2 GPU(s) there: using GPU [0, 1]"
    assert plan(0, accelerator="gpu").warning == "accelerator=gpu asked for, 0 GPU(s) there: using 1 CPU process(es)"


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_an_accelerator_that_is_asked_for_beside_the_cpu(gpus):
    got = plan(gpus, device="cpu", accelerator="gpu")
    assert (got.accelerator, got.ids) == CPU
    assert got.warning == "device=cpu beats accelerator=gpu: using 1 CPU process(es)"


@pytest.mark.parametrize(
    ("gpus", "settings", "used"),
    [
        (0, {}, ("cpu", (0, 1, 2))),
        (4, {"device": "cpu"}, ("cpu", (0, 1, 2))),
        (4, {"accelerator": "cpu", "device": "2"}, ("cpu", (0, 1, 2))),
        (4, {}, gpu(0, 1, 2)),
        (4, {"device": "gpu"}, gpu(0, 1, 2)),
        (4, {"device": "3"}, gpu(0, 1, 2)),
        (4, {"device": "[3,1,0]"}, gpu(3, 1, 0)),
    ],
)
def test_a_number_of_processes(gpus, settings, used):
    got = plan(gpus, devices=3, **settings)
    assert (got.accelerator, got.ids, got.warning) == (*used, None)


def test_processes_that_find_no_gpu_run_on_the_cpu_in_the_same_number():
    got = plan(0, devices=2, device="2")
    assert (got.accelerator, got.ids) == ("cpu", (0, 1))
    assert got.warning


DEVICES = st.one_of(
    st.sampled_from(["auto", "cpu", "gpu"]),
    st.integers(1, 10**15),
    st.lists(st.integers(0, 9), min_size=1, max_size=5, unique=True).map(tuple),
)


@given(DEVICES, st.sampled_from(["auto", "cpu", "gpu"]), st.integers(0, 8))
def test_every_plan_can_be_carried_out(device, accelerator, gpus):
    got = plan(gpus, device=device, accelerator=accelerator)
    assert got.ids
    assert len(set(got.ids)) == got.count
    if got.accelerator == "gpu":
        assert max(got.ids) < gpus
        assert device != "cpu"
        assert accelerator != "cpu"
    else:
        assert gpus == 0 or "cpu" in (device, accelerator)


def test_the_first_device_alone():
    got = DevicePlan("gpu", (2, 3)).single("could not connect")
    assert got == DevicePlan("gpu", (2,), "could not connect")
    assert str(got) == "GPU [2]"


@pytest.mark.parametrize(
    ("accelerator", "count", "cores", "workers"),
    [("cpu", 1, 16, 0), ("gpu", 1, 16, 4), ("gpu", 4, 16, 3), ("gpu", 1, 2, 1), ("gpu", 8, 8, 1)],
)
def test_loader_workers_where_nothing_was_asked_for(accelerator, count, cores, workers):
    assert loader_workers(DevicePlan(accelerator, tuple(range(count))), cores) == workers


def test_loader_workers_of_an_actor_have_its_cores_and_not_those_of_the_machine():
    assert loader_workers(DevicePlan("gpu", (0,), cores=3), 64) == 2
    assert loader_workers(DevicePlan("gpu", (0, 1, 2, 3), cores=2), 64) == 1
