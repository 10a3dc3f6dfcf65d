from __future__ import annotations

import math
import os

import pytest

from bsm_core.testing.elsewhere import HASH_SEED, ElsewhereError, elsewhere


def here(name: str) -> str | None:
    print("this is no answer")
    return os.environ.get(name)


def leave() -> None:
    os._exit(5)


def local():
    return lambda: None


def test_it_is_another_process_with_another_hash_seed():
    assert elsewhere(os.getpid) != os.getpid()
    assert elsewhere(here, "PYTHONHASHSEED") == HASH_SEED


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
