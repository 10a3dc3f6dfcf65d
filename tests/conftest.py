"""One thread for each process: the models of the tests are tiny, and threads that wait for each other cost more."""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings
from support.processes import server
from support.tracing import pytest_collection as pytest_collection
from support.tracing import pytest_runtest_protocol as pytest_runtest_protocol
from support.tracing import pytest_runtestloop as pytest_runtestloop

settings.register_profile("bsm", deadline=None)  # a busy machine is no failure
settings.load_profile("bsm")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray reads these when it is imported: a cluster of the tests answers the tests alone.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-tests-" * 3}
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported; tests use no network
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bsm-tests-")  # what a trial of backends found is the user's


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _processes_start_from_a_server() -> Iterator[None]:
    from support.answering import install  # imports bsm, which coverage would not see any more

    with server(), contextlib.closing(install()):
        yield


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Undo the logging configuration of a command before and after each test, or pytest captures its lines twice.

    Before it, too: a fixture of a module may have run a command.
    """
    _undo_configuration()
    yield
    _undo_configuration()


def _undo_configuration() -> None:
    logger = logging.getLogger("bsm")
    logger.propagate, logger.handlers[:] = True, []
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def hangup_not_ignored() -> Iterator[None]:
    """Let processes of a test start with the default action of SIGHUP, also where the tests run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
