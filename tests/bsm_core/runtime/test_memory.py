from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import re
import resource
import sys
import textwrap
from contextlib import nullcontext

import pyarrow as pa
import pytest
from support.plugins import run_python

from bsm_core.errors import DataError, MemoryLimitError, ModelFailedError
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


# Limits


LIMITED = """
import mmap, re, resource, sys
from pathlib import Path
from bsm_core.errors import DataError, BSMError
from bsm_core.runtime.memory import explaining_memory

def limit(free):
    used = int(re.search(r"VmSize:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + free, used + free))

def explained(action):
    try:
        with explaining_memory(), explaining_memory():
            action()
    except BSMError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that the system enforces, and /proc")
def test_an_allocation_that_fails_names_the_limit():
    told = run_python(LIMITED + "limit(1 << 22); explained(lambda: bytearray(1 << 30))").splitlines()
    assert told[0] == "memory ran out: MemoryError"
    assert re.fullmatch(r"  a process may use at most \d+ MB of address space \(ulimit -v\).*", told[1])
    assert told[2].startswith("  To fix: raise the limit")


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that the system enforces, and /proc")
def test_an_error_where_the_limit_is_used_up_is_put_down_to_it_or_gets_a_line():
    code = """
    def fail(error):
        raise error

    limit(0)
    explained(lambda: fail(SystemError("no exception set")))
    explained(lambda: fail(RuntimeError("could not create a primitive")))
    explained(lambda: fail(DataError("too many cells")))
    """
    told = run_python(LIMITED + textwrap.dedent(code)).splitlines()
    assert [line for line in told if not line.startswith("  ")] == [
        "memory ran out: SystemError: no exception set",
        "memory ran out: RuntimeError: could not create a primitive",
        "too many cells",
    ]
    assert told[-1].startswith("  memory may have run out: a process may use at most")
    assert sum("this one has used" in line for line in told) == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nmore"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_whatever_a_library_makes_of_it_memory_ran_out(error):
    def wrapped():
        try:
            raise error
        except Exception as cause:
            raise ModelFailedError("model class 'x' failed", fix="correct the model class") from cause

    for action in (raising(error), wrapped):
        words = rf"^memory ran out: {type(error).__name__}"
        with pytest.raises(MemoryLimitError, match=words) as caught, memory.explaining_memory():
            action()
        assert "correct the model class" not in str(caught.value)
        assert "more" not in caught.value.what


def quoting(row):
    error = DataError("expected 2 cells, found 3")
    error.__cause__ = pa.ArrowInvalid(f"CSV parse error: {row}")
    return error


@pytest.mark.parametrize(
    "error",
    [
        DataError("line 14"),
        ZeroDivisionError(),
        RuntimeError("can't start new thread"),
        quoting("2,std::bad_alloc,z"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, memory.explaining_memory():
        raise error
    assert caught.value is error
    assert getattr(error, "details", ()) == ()


@pytest.mark.parametrize(("limit", "fails"), [(1 << 30, True), (2 << 30, False), (resource.RLIM_INFINITY, False)])
def test_a_limit_below_what_the_libraries_need_is_an_error(monkeypatch, limit, fails):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    with pytest.raises(MemoryLimitError, match="may use 1,024 MB") if fails else nullcontext():
        memory.require_memory_for_libraries()
