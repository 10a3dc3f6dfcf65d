from __future__ import annotations

import ctypes
import gc
import importlib
import os

import pytest

from bsm_core.runtime import memory


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_free_memory_is_given_back_once_a_second(clock, monkeypatch):
    asked, settings = [], {}
    library = {"malloc_trim": staticmethod(asked.append), "mallopt": staticmethod(settings.__setitem__)}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: type("C", (), library))
    free = memory.FreeMemory()
    assert settings == {-1: 2**29, -3: 2**25, -8: max(1, os.cpu_count() // 4)}  # the numbers of <malloc.h>
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


def test_what_is_imported_is_not_looked_through_again(tmp_path, monkeypatch):
    (tmp_path / "with_a_cycle.py").write_text("import gc\nenabled = gc.isenabled()\nmine = []\nmine.append(mine)\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with memory.starting():
            module = importlib.import_module("with_a_cycle")
        assert gc.get_freeze_count()
        assert not any(found is module.mine for found in gc.get_objects())  # frozen objects are not among them
    finally:
        gc.unfreeze()
    assert not module.enabled
    assert gc.isenabled()


def test_garbage_is_collected_again_when_an_import_fails():
    try:
        with pytest.raises(ModuleNotFoundError), memory.starting():
            importlib.import_module("no_such_module")
    finally:
        gc.unfreeze()
    assert gc.isenabled()
