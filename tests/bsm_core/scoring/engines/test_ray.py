"""The Ray engine, with a real cluster of this host, which stays for all tests of the file."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pandas as pd
import pytest
from support.toy import SITE, toy_rows

from bsm_core.errors import DataError, EngineError, UsageError
from bsm_core.scoring.engines import ray_cluster
from bsm_core.scoring.output.manifest import WorkFolder

# Not imported here: the first import reads the variables that the fixture `address` sets.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")

CLUSTER = """
import ray, sys
context = ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address():
    """The address of a cluster with two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "of-the-tests-" * 3)
        environment = {**os.environ, "PYTHONPATH": str(SITE), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if ":" in line and " " not in line.strip())
        process.communicate()


@pytest.fixture
def score(run, address):
    """Runs a job on two actors."""

    def start(**flags):
        settings = {"engine": "ray", "ray_address": address, "num_actors": 2, "device": "cpu", "window_rows": 3}
        return run(**{**settings, **flags})

    start.data, start.out, start.local = run.data, run.out, run
    return start


def actors():
    """The process ids of the actors."""
    found = subprocess.run(["pgrep", "-f", "^ray::WindowActor"], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_actors_write_the_bytes_of_one_process(score, name):
    content = toy_rows(40).to_csv(index=False).encode()
    (score.data / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    one = score.local(device="cpu", window_rows=3).path.read_bytes()
    (score.out / "inference_predictions.csv").unlink()
    done = score(run_record=True, profile=True)
    assert done.path.read_bytes() == one
    assert (done.rows, done.windows) == (40, 14)
    record = json.loads((score.out / "run.json").read_text())
    assert record["device"] == {"asked": "cpu", "used": "2 Ray actor(s) on CPU"}
    assert record["profile"]["model"] > 0


def test_an_actor_that_dies_is_replaced_and_the_run_goes_on(score, caplog):
    toy_rows(4000).to_csv(score.data / "t.csv", index=False)
    work = WorkFolder(score.out)

    def kill():
        while not work.rows_done():
            time.sleep(0.01)
        os.kill(actors()[0], signal.SIGKILL)

    one = score.local(device="cpu", window_rows=3).path.read_bytes()
    (score.out / "inference_predictions.csv").unlink()
    killer = threading.Thread(target=kill)
    killer.start()
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score().path.read_bytes() == one
    killer.join()
    assert "a new one takes its place" in caplog.text


def test_a_window_that_kills_its_actors_is_named_and_can_be_left_empty(score, caplog):
    rows = toy_rows(12)
    rows.loc[7, "chat"] = "KILL"
    rows.to_csv(score.data / "t.csv", index=False)
    with pytest.raises(EngineError, match=r"3 actors died with window 2, rows 6 to 8"):
        score(num_actors=1)
    assert WorkFolder(score.out).rows_done() == 9
    done = score(num_actors=1, on_bad_row="null", row_issues=score.out.parent / "issues.csv", resume="require")
    got = pd.read_csv(done.path, dtype={"id": str})
    assert got["id"].tolist() == rows["id"].tolist()
    assert got["prob_class_0"].isna().tolist() == [6 <= i <= 8 for i in range(12)]
    issues = pd.read_csv(score.out.parent / "issues.csv")
    assert issues["row"].tolist() == [6, 7, 8]
    assert set(issues["reason"]) == {"the actor died that scored the row"}


def test_an_error_of_an_actor_is_the_error_of_the_run(score):
    toy_rows(12).to_csv(score.data / "t.csv", index=False)
    with (score.data / "t.csv").open("a") as file:
        file.write("031,short\n")
    with pytest.raises(DataError, match="line 14"):
        score()


def test_lines_of_actors_name_their_window(score, caplog):
    rows = toy_rows(6)
    rows.loc[4, "amount"] = "many"
    rows.to_csv(score.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        score(num_actors=1)
    [line] = [line for line in caplog.messages if "many" in line]
    assert line.startswith("actor 1 of 1, window 1: ")


def test_more_actors_than_cores_are_refused(score):
    toy_rows(3).to_csv(score.data / "t.csv", index=False)
    with pytest.raises(EngineError, match=r"3 actors do not fit: the cluster has 2 core"):
        score(num_actors=3)


@pytest.mark.parametrize("flags", [{"devices": "2"}, {"device": "4"}, {"device": "[0,1]"}])
def test_devices_are_numbers_of_actors(run, flags):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(UsageError, match="--num-actors"):
        run(engine="ray", **flags)


def test_without_ray_it_is_said_what_to_install(run, monkeypatch):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'bsm-core\[ray\]'"):
        run(engine="ray")
