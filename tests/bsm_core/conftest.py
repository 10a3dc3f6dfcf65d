from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.toy import SITE, write_toy_artifact

from bsm_core.registry import default_registry


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
