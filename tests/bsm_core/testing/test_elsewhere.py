from __future__ import annotations

import math
import os

import pytest
from support.elsewhere import hang, leave, local, variable

from bsm_core.testing import elsewhere as module
from bsm_core.testing.elsewhere import HASH_SEED, ElsewhereError, elsewhere


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
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with pytest.raises(ElsewhereError, match=r"no answer in 0\.2 s"):
        elsewhere(hang)
    monkeypatch.setattr(module, "SECONDS", 60)
    assert elsewhere(os.getpid)
