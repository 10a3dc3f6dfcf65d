from __future__ import annotations

import math
import os

import pytest
from support.elsewhere import hang, is_daemon, leave, local, variable

from bsm_core.testing import elsewhere as module
from bsm_core.testing.elsewhere import HASH_SEED, ElsewhereError, elsewhere, in_a_worker


@pytest.fixture(autouse=True, scope="module")
def interpreter():
    """Interpreters answer here, and no process of the tests' server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_shared", None)
        yield
        module._shared.close()


def test_it_is_another_process_with_another_hash_seed():
    assert elsewhere(os.getpid) != os.getpid()
    assert elsewhere(variable, "PYTHONHASHSEED") == HASH_SEED


def test_it_is_started_once():
    assert elsewhere(os.getpid) == elsewhere(os.getpid)


def test_what_is_raised_there_is_said():
    with pytest.raises(ElsewhereError, match="ValueError"):
        elsewhere(math.sqrt, -1)


def test_what_cannot_travel_is_said():
    with pytest.raises(ElsewhereError, match="pickle"):
        elsewhere(local)


def test_after_it_has_died_there_is_another():
    first = elsewhere(os.getpid)
    with pytest.raises(ElsewhereError, match="ended with status 5"):
        elsewhere(leave)
    assert elsewhere(os.getpid) != first


def test_what_does_not_end_is_ended_and_said(monkeypatch):
    elsewhere(os.getpid)
    monkeypatch.setattr("bsm_core.testing.elsewhere.SECONDS", 0.2)
    with pytest.raises(ElsewhereError, match=r"no answer in 0\.2 s"):
        elsewhere(hang)
    monkeypatch.setattr("bsm_core.testing.elsewhere.SECONDS", 60)
    assert elsewhere(os.getpid)


def test_a_fresh_process_is_another_one_each_time():
    shared = elsewhere(os.getpid)
    assert len({shared, elsewhere(os.getpid, fresh=True), elsewhere(os.getpid, fresh=True)}) == 3
    assert elsewhere(os.getpid) == shared


def test_a_worker_is_a_daemon_that_the_other_process_spawns():
    assert elsewhere(in_a_worker, is_daemon) is True
    assert elsewhere(is_daemon) is False


def test_what_a_worker_does_is_said():
    with pytest.raises(ElsewhereError, match="the worker ended with status 5"):
        elsewhere(in_a_worker, leave)
    with pytest.raises(ElsewhereError, match="ValueError"):
        elsewhere(in_a_worker, math.sqrt, -1)
