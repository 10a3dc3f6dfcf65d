"""Where coverage looks, and where it does not: a tracer makes Python code take twice as long, libraries included.

What counts is what the tests of each package reach; tests that go from end to end, through all packages and their
libraries, run untraced, and so does what takes long before the first test. Without ``--cov`` nothing changes.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from support.processes import LIBRARIES

PACKAGES = ("bsm_core", "bsm_plugins_text", "bsm_plugins_models")
TESTS = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Collect tests untraced; only the import of the packages counts."""
    tracer = sys.gettrace()
    if tracer is None or session.config.getoption("dist", "no") != "no":  # the latter leaves it to other processes
        return (yield)
    sys.settrace(None)
    for name in [*LIBRARIES, "hypothesis"]:
        importlib.import_module(name)
    sys.settrace(tracer)
    _import_packages()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def _import_packages() -> None:
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__"):  # which would run the command
                importlib.import_module(module.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run tests of no package untraced."""
    tracer = sys.gettrace()
    if tracer is None or item.path.relative_to(TESTS).parts[0] in PACKAGES:
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
