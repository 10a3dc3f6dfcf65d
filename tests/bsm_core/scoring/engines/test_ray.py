"""The Ray engine, with a real cluster of this host, which stays for all tests of the file."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from support.plugins import on_path, write_distribution
from support.processes import descendants
from support.toy import SITE, toy_rows

from bsm_core.errors import DataError, EngineError
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.sink import Sink

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")

CLUSTER = """
import ray, sys
context = ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster with two cores: its address, its process, and a folder of the path of its processes."""
    site = tmp_path_factory.mktemp("site")
    path = os.pathsep.join([str(site), str(SITE)])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lines = iter(process.stdout.readline, "")
    address = next(line.strip() for line in lines if ":" in line and " " not in line.strip())
    yield SimpleNamespace(address=address, process=process.pid, site=site)
    process.communicate()


@pytest.fixture
def score(run, cluster):
    """Runs a job on two actors."""

    def start(**flags):
        settings = {"engine": "ray", "ray_address": cluster.address, "num_actors": 2, "device": "cpu"}
        return run(**{**settings, "window_rows": 3, **flags})

    start.data, start.out, start.local = run.data, run.out, run
    start.actors = lambda: [n for n, command in descendants(cluster.process).items() if "ray::WindowActor" in command]
    return start


HOOKS = """
import os
from bsm_core import hookimpl

@hookimpl
def bsm_window_start(batch):
    with open(os.path.join(os.path.dirname(__file__), "notes"), "a") as notes:
        print(os.getpid(), batch.window.index, file=notes)

@hookimpl
def bsm_window_end(batch, probabilities):
    return {"rows": batch.rows}

@hookimpl
def bsm_committed(committed, record):
    with open(os.path.join(os.path.dirname(__file__), "notes"), "a") as notes:
        print(os.getpid(), "end", file=notes)
"""


@pytest.fixture
def hooks(cluster):
    """Installs an observer for the driver and the actors; returns a function that returns its notes."""
    write_distribution(cluster.site, "acme", {"acme": HOOKS}, {"observers": {"acme": "acme"}})
    with on_path(cluster.site):
        yield lambda: [line.split() for line in (cluster.site / "notes").read_text().splitlines()]
    for path in cluster.site.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_actors_write_the_embeddings_of_one_process(score):
    toy_rows(40).to_csv(score.data / "t.csv", index=False)
    flags = {"emit": "embeddings", "window_rows": 3, "device": "cpu", "output_dir": score.out.parent / "local"}
    whole = score.local(**flags)
    done = score(emit="embeddings")
    assert done.embeddings.read_bytes() == whole.embeddings.read_bytes()
    assert done.path.read_bytes() == whole.path.read_bytes()


def test_actors_write_the_bytes_of_one_process(score, hooks, caplog):
    rows = toy_rows(40)
    rows["amount"] = rows["amount"].mask(rows.index == 7, "many")
    rows.to_csv(score.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        done = score(run_record=True, profile=True)
    assert (done.rows, done.windows) == (40, 14)
    assert print.__module__ == "builtins"  # Ray would replace it, for the whole process
    record = json.loads((score.out / "run.json").read_text())
    assert record["device"] == {"asked": "cpu", "used": "2 Ray actor(s) on CPU"}
    assert record["profile"]["model"] > 0

    # Hooks are called once for each window, in the actors, and once by the driver.
    *windows, end = hooks()
    assert end == [str(os.getpid()), "end"]
    assert sorted(int(index) for _, index in windows) == list(range(14))
    assert end[0] not in {process for process, _ in windows}
    assert record["counts"]["plugin:acme:rows"] == 40

    # Log lines name the actor and the window.
    [line] = [line for line in caplog.messages if "many" in line]
    assert re.match(r"actor [12] of 2, window 2: ", line)

    content = done.path.read_bytes()
    done.path.unlink()
    assert score.local(device="cpu", window_rows=3).path.read_bytes() == content


def test_a_run_goes_on_where_another_engine_was_killed_and_where_an_actor_was(score, monkeypatch, caplog):
    toy_rows(600).to_csv(score.data / "t.csv", index=False)
    work, written = WorkFolder(score.out), []
    one = score.local(device="cpu", window_rows=3).path.read_bytes()
    (score.out / "inference_predictions.csv").unlink()

    write = Sink.write_parts

    def write_some(sink, parts):
        written.append(len(parts))
        if sum(written) > 30:
            raise EngineError("the machine is switched off")
        write(sink, parts)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "write_parts", write_some)
        with pytest.raises(EngineError, match="switched off"):
            score.local(device="cpu", window_rows=3)
    assert work.rows_done() == 90

    killed: list[int] = []

    def write_and_kill(sink, parts):
        write(sink, parts)
        if not killed and work.rows_done() >= 120:
            killed.append(score.actors()[0])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Sink, "write_parts", write_and_kill)
    with caplog.at_level(logging.INFO, "bsm"):
        assert score(resume="require").path.read_bytes() == one
    assert "90 rows are done by an earlier attempt" in caplog.text
    assert "a new one takes its place" in caplog.text


def test_an_error_of_a_loader_worker_of_an_actor_is_the_error_of_the_run(score):
    toy_rows(12).to_csv(score.data / "t.csv", index=False)
    with (score.data / "t.csv").open("a") as file:
        file.write("031,short\n")
    with pytest.raises(DataError, match="line 14"):
        score(num_workers=1)


def test_an_actor_without_a_guard_of_the_driver_is_named(score, tmp_path):
    toy_rows(3).to_csv(score.data / "t.csv", index=False)
    write_distribution(tmp_path / "site", "vouch", {"acme_vouch": HOOKS}, {"guards": {"vouch": "acme_vouch"}})
    with on_path(tmp_path / "site"), pytest.raises(EngineError, match="would score with other code") as error:
        score()
    assert "guard vouch: " in error.value.details[0]
