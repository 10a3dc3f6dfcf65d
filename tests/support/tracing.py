"""Where coverage looks, and where it does not: a tracer makes Python code take twice as long, libraries included.

What counts is what the tests of each package reach. Untraced are tests that go from end to end, through all packages
and their libraries; tests of Hypothesis, which run the same lines a hundred times; what takes long before the first
test; and the process that only hands the tests out to others. Without ``--cov`` nothing changes.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.processes import LIBRARIES

PACKAGES = ("bsm_core", "bsm_plugins_text", "bsm_plugins_models")
TESTS = Path(__file__).parents[1]


@contextmanager
def untraced() -> Iterator[None]:
    """Trace nothing inside the context."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Collect tests untraced; only the import of the packages counts."""
    if sys.gettrace() is None or _hands_out(session):
        return (yield)
    with untraced():
        for name in [*LIBRARIES, "hypothesis"]:
            importlib.import_module(name)
    _import_packages()
    with untraced():
        return (yield)


def _import_packages() -> None:
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__"):  # which would run the command
                importlib.import_module(module.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, Any, Any]:
    """Trace nothing in the process that hands the tests out."""
    if not _hands_out(session):
        return (yield)
    with untraced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run tests of no package, and those of Hypothesis, untraced."""
    of_a_package = item.path.relative_to(TESTS).parts[0] in PACKAGES
    if of_a_package and not getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return (yield)
    with untraced():
        return (yield)


def _hands_out(session: pytest.Session) -> bool:
    """Return whether other processes run the tests of the session, as with ``--numprocesses``."""
    return bool(session.config.getoption("dist", "no") != "no")
