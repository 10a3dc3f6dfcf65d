"""The connection to a cluster of Ray, which a stand-in answers: no process of Ray is started."""

from __future__ import annotations

import io
import logging
import socket
from contextlib import nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from unittest import mock

import pytest
from support.toy import toy_rows

from bsm_core import Settings
from bsm_core.errors import EngineError, UsageError
from bsm_core.scoring.dry_run import dry_run
from bsm_core.scoring.engines import ray_cluster

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")


@pytest.fixture
def listens(monkeypatch):
    """Lets every address of another machine answer."""
    connect = socket.create_connection

    def answer(place, **options):
        return connect(place, **options) if place[0] == "127.0.0.1" else io.BytesIO()

    monkeypatch.setattr("socket.create_connection", answer)


@pytest.fixture
def joining(monkeypatch, caplog, listens):
    """Connects to a cluster of which more hosts are there at each look; returns the plan, and hosts that nobody saw."""
    monkeypatch.setattr(ray_cluster, "_PAUSE_S", 0)

    def connect(*looks, wait_s=600.0, **settings):
        later = iter(looks)
        seen = [[]]

        def nodes():
            seen[0] = next(later, seen[0])
            return [{"Alive": True, "Resources": {"CPU": cores, "GPU": gpus}} for cores, gpus in seen[0]]

        monkeypatch.setattr(ray_cluster, "_JOIN_S", wait_s)
        monkeypatch.setattr("ray.init", lambda *_, **__: SimpleNamespace(address_info={}))
        monkeypatch.setattr("ray.nodes", nodes)
        caplog.set_level(logging.INFO, "bsm")
        given = {"job_type": "inference", "ray_address": "10.0.0.1:6379", **settings}
        with ray_cluster.connected(Settings.resolve(given, {})) as plan:
            return plan, list(later)

    return connect


HEAD = (4, 0)


def test_a_run_waits_for_the_machines_of_its_actors(joining, caplog):
    plan, unseen = joining([], [(1, 0)], [(1, 0), (1, 0)], num_actors=2)
    assert (str(plan), unseen) == ("2 Ray actor(s) on CPU", [])
    assert sum("waiting for machines to join" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("flags", [{"device": "gpu"}, {"accelerator": "gpu"}, {"device": "cuda"}])
def test_a_run_on_gpus_waits_for_gpus_where_the_cores_of_the_head_would_do(joining, caplog, flags):
    plan, unseen = joining([HEAD], [HEAD, (4, 1)], [HEAD, (4, 1), (4, 1)], num_actors=2, **flags)
    assert (str(plan), unseen) == ("2 Ray actor(s) on GPU", [])
    assert not any(record.levelno > logging.INFO for record in caplog.records)


@pytest.mark.parametrize("flags", [{"device": "cpu"}, {"device": "cpu", "accelerator": "gpu"}, {"device": "auto"}])
def test_a_run_that_does_not_need_gpus_waits_for_none(joining, flags):
    plan, unseen = joining([HEAD], [HEAD, (4, 1)], num_actors=2, **flags)
    assert (str(plan), len(unseen)) == ("2 Ray actor(s) on CPU", 1)


def test_without_a_number_of_actors_the_machines_that_are_there_do(joining, caplog):
    plan, unseen = joining([HEAD], [HEAD, (4, 1)], device="gpu")
    assert (str(plan), len(unseen)) == ("1 Ray actor(s) on CPU", 1)
    assert "device=gpu asked for, 0 GPU(s) there" in caplog.text


def test_gpus_that_do_not_come_are_replaced_by_cores_as_on_one_machine(joining, caplog):
    plan, _ = joining([HEAD], num_actors=2, device="gpu", wait_s=0.0)
    assert str(plan) == "2 Ray actor(s) on CPU"
    assert "device=gpu asked for, 0 GPU(s) there" in caplog.text


def test_more_actors_than_cores_are_refused(joining):
    with pytest.raises(EngineError, match=r"3 actors do not fit: the cluster has 2 core"):
        joining([(1, 0), (1, 0)], num_actors=3, wait_s=0.0)


@pytest.mark.parametrize(
    ("address", "fails", "stays"), [(None, False, False), (None, True, True), ("a:1", False, True)]
)
def test_logs_of_ray_stay_if_the_run_fails_or_the_cluster_is_not_its_own(
    monkeypatch, tmp_path, listens, address, fails, stays
):
    (tmp_path / "session" / "logs").mkdir(parents=True)
    context = SimpleNamespace(address_info={"session_dir": str(tmp_path / "session")})
    monkeypatch.setattr("ray.init", lambda *_, **__: context)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1}}])
    settings = Settings.resolve({"job_type": "inference", "ray_address": address}, {})
    with pytest.raises(EngineError) if fails else nullcontext(), ray_cluster.connected(settings):
        if fails:
            raise EngineError("the run has failed")
    assert (tmp_path / "session" / "logs").exists() == stays


@pytest.mark.parametrize("flags", [{"devices": "2"}, {"device": "4"}, {"device": "[0,1]"}])
def test_devices_are_numbers_of_actors(run, flags):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(UsageError, match="--num-actors"):
        run(engine="ray", **flags)


@pytest.mark.parametrize(
    ("address", "fix"),
    [({}, "see the log of Ray"), ({"ray_address": "10.0.0.1:6379"}, r"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN")],
)
def test_a_cluster_that_cannot_be_used_is_an_error(run, monkeypatch, listens, address, fix):
    def start(*_, **__):
        raise Exception("The current node\ntimed out during startup.")

    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr("ray.init", start)
    with pytest.raises(EngineError, match=rf"(?s)Ray cannot be used: The current node timed out.*{fix}"):
        run(engine="ray", **address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_at_which_nothing_listens_is_an_error_at_once(run, monkeypatch, scheme):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray tries for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"{scheme}127.0.0.1:{port}"
    with pytest.raises(EngineError, match=r"(?s)does not answer.*ray status") as caught:
        run(engine="ray", ray_address=address)
    assert caught.value.where == address


# A dry run


@pytest.fixture
def look(run, monkeypatch, listens):
    """Makes a dry run with a cluster whose hosts have cores and GPUs; returns the plan."""

    def outline(*hosts, **flags):
        toy_rows(3).to_csv(run.data / "t.csv", index=False)
        nodes = [{"Alive": True, "Resources": {"CPU": cores, "GPU": gpus}} for cores, gpus in hosts]
        monkeypatch.setattr("ray.init", lambda *_, **__: SimpleNamespace(address_info={}))
        monkeypatch.setattr("ray.nodes", lambda: nodes)
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))
        places = {"model_dir": run.artifact, "data_dir": run.data, "output_dir": run.out, "id_field": "id"}
        return dry_run({**places, "engine": "ray", "ray_address": "10.0.0.1:6379", **flags}, {})

    return outline


def test_a_dry_run_prints_the_actors_that_the_cluster_has_room_for(look):
    plan = dict(look((4, 0), (2, 0), num_actors=3).entries())
    assert plan["device"].startswith("3 Ray actor(s) on CPU, fp32, backend ")


def test_a_dry_run_knows_gpus_of_the_cluster_that_are_not_here(look, monkeypatch, caplog):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan = dict(look((4, 2)).entries())
    assert plan["device"].startswith("2 Ray actor(s) on GPU, auto, backend ")
    assert "the GPUs of the actors are on other machines" in caplog.text


def test_a_dry_run_waits_for_no_machine(look):
    with pytest.raises(EngineError, match=r"99999 actors do not fit: the cluster has 4 core"):
        look(HEAD, num_actors=99999)


def test_a_dry_run_needs_a_cluster_at_the_address(look):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EngineError, match="does not answer"):
        look(HEAD, ray_address=f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["auto", "a:port", "[1:2", "head"])
def test_an_address_without_a_port_is_left_to_ray(run, monkeypatch, address):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr("ray.init", mock.Mock(side_effect=ConnectionError("no cluster there")))
    with pytest.raises(EngineError, match="no cluster there"):
        run(engine="ray", ray_address=address)


def test_without_ray_it_is_said_what_to_install(run, monkeypatch):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'bsm-core\[ray\]'"):
        run(engine="ray")
