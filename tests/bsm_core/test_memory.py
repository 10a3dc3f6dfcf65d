from __future__ import annotations

import ctypes

import pytest

from bsm_core import memory


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_free_memory_is_given_back_once_a_second(clock, monkeypatch):
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: type("C", (), {"malloc_trim": staticmethod(asked.append)}))
    free = memory.FreeMemory()
    done = []
    for clock[0] in (100.5, 101.0, 101.5, 102.5):
        done.append(free.give_back())
    assert done == [False, True, False, True]
    assert asked == [0, 0]


def test_other_c_libraries_do_without(clock, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    free = memory.FreeMemory()
    clock[0] += 10
    assert free.give_back() is False
