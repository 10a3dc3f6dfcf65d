from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.plugins.registry import default_registry
from bsm_core.scoring import job


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
