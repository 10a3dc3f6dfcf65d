from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from support.object_store import KEY, SECRET, Proxy, make_bucket, s3_server
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.plugins.registry import default_registry
from bsm_core.scoring import job
from bsm_core.storage import stores
from bsm_core.storage.objects import ObjectPath

QUICK = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=10), "base": 2}


@pytest.fixture
def toy_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The toy plugin is installed, for this process and those it starts."""
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    default_registry.cache_clear()
    yield SITE
    default_registry.cache_clear()


@pytest.fixture
def toy_artifact(toy_site: Path, tmp_path: Path) -> Path:
    """The toy plugin's artifact."""
    return write_toy_artifact(tmp_path / "model")


@pytest.fixture
def quiet_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log as it was, after a command has configured it."""
    logger = logging.getLogger("bsm")
    level = logger.level
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    yield
    logger.setLevel(level)


@pytest.fixture
def run(toy_artifact, tmp_path):
    """Runs a job on the folder ``data``; gives the output folder."""
    (tmp_path / "data").mkdir()

    def start(env=MappingProxyType({"ID_FIELD": "id"}), **flags):
        settings = {
            "job_type": "inference",
            "model_dir": toy_artifact,
            "data_dir": tmp_path / "data",
            "output_dir": tmp_path / "out",
            **flags,
        }
        return job.run(settings, env)

    start.data, start.out, start.artifact = tmp_path / "data", tmp_path / "out", toy_artifact
    return start


@pytest.fixture
def data(run):
    """The fixture ``run``, with 23 rows in its data folder."""
    toy_rows(23).to_csv(run.data / "t.csv", index=False)
    return run


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server."""
    pytest.importorskip("moto.server")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def use_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the S3 server, for this process and those it starts, with few retries in this one."""
    pytest.importorskip("obstore")
    monkeypatch.setattr(stores, "RETRIES", {"max_retries": 2, "backoff": QUICK})
    monkeypatch.setattr(stores, "PAUSES_S", (0.0, 0.001, 0.01))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def use(url: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        stores.store_of.cache_clear()

    yield use
    stores.store_of.cache_clear()


@pytest.fixture
def bucket(s3_endpoint: str, use_endpoint: Callable[[str], None]) -> ObjectPath:
    """An empty bucket."""
    use_endpoint(s3_endpoint)
    return make_bucket(s3_endpoint, f"bucket-{uuid.uuid4().hex}")


@pytest.fixture
def proxy(bucket: ObjectPath, s3_endpoint: str, use_endpoint: Callable[[str], None]) -> Iterator[Proxy]:
    """A proxy before the S3 server, which is used from now on."""
    with contextlib.closing(Proxy(s3_endpoint)) as proxy:
        use_endpoint(proxy.url)
        yield proxy
