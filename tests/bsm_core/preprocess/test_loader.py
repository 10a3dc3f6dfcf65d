from __future__ import annotations

import errno
import gzip
import multiprocessing
import signal
from contextlib import suppress

import pytest
from support.plugins import component, on_path
from support.windows import CONFIG, Raising, decoded, write
from torch.utils.data import DataLoader

from bsm_core import Pipeline
from bsm_core.artifact.config import StepSpec
from bsm_core.errors import ComponentLoadError, DataError, EngineError, Interrupted
from bsm_core.plugins.registry import Registry
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.preprocess.loader import WindowLoader
from bsm_core.preprocess.steps import StepContext
from bsm_core.runtime.handout import Handout
from bsm_core.runtime.signals import interruptible
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import work_of


def indices(loader):
    return [(b.window.index, b.window.kept["id"].to_pylist()) for b in loader]


def test_processes_share_the_windows_out(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", *(f"{i},x,1,web" for i in range(11)))
    columns = [*preprocessor.keep, *preprocessor.wanted]
    with Handout(work_of(source, columns, rows=2, done={}, consumers=2), 0) as handout:
        loaders = [iter(WindowLoader(source, preprocessor, rows=2, work=handout.address)) for _ in range(2)]
        taken = [next(loaders[turn]) for turn in (0, 1, 0, 0, 1, 0)]
        assert [next(loader, None) for loader in loaders] == [None, None]
    assert [batch.window.index for batch in taken] == list(range(6))
    assert [i for _, kept in indices(taken) for i in kept] == [str(i).encode() for i in range(11)]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_workers_share_them_out_and_look_steps_up_by_name(preprocessor, tmp_path, name):
    source = write(tmp_path / "t.csv", *(f"{i},x{i},1,web" for i in range(11)))
    if name != "t.csv":
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
        source = TableSource.open(tmp_path / name)
    alone = WindowLoader(source, preprocessor, rows=2)
    helped = WindowLoader(source, preprocessor, rows=2, num_workers=2)
    assert sorted(indices(helped)) == indices(alone)
    assert {i: decoded(b) for b in helped for i in [b.window.index]} == {b.window.index: decoded(b) for b in alone}


def test_work_that_was_given_is_given_once(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", *(f"{i},x{i},1,web" for i in range(11)))
    columns = [*preprocessor.keep, *preprocessor.wanted]
    work = work_of(source, columns, rows=2, done={}, consumers=1)
    loader = WindowLoader(source, preprocessor, rows=2, work=work, num_workers=1)
    assert len(indices(loader)) == 6
    assert indices(loader) == []  # and not the whole table


def test_windows_that_are_done_are_left_out_by_workers_too(preprocessor, tmp_path):
    source = write(tmp_path / "t.csv", *(f"{i},x{i},1,web" for i in range(11)))
    done = {0: None, 3: None}
    helped = WindowLoader(source, preprocessor, rows=2, done=done, num_workers=2)
    assert sorted(index for index, _ in indices(helped)) == [1, 2, 4, 5]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_keeps_its_type_and_its_words(preprocessor, tmp_path, workers):
    before = multiprocessing.active_children()
    source = write(tmp_path / "t.csv", "1,x,1,web", "2,ragged")
    with pytest.raises(DataError, match=r"t\.csv.*3|line 3") as caught:
        list(WindowLoader(source, preprocessor, num_workers=workers))
    assert caught.value.__traceback__  # which must not keep the workers
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_the_end_of_the_process_that_hands_out_is_no_end_of_a_worker(preprocessor, tmp_path, workers):
    source = write(tmp_path / "t.csv", *(f"{i},x,1,web" for i in range(11)))
    columns = [*preprocessor.keep, *preprocessor.wanted]
    with Handout(work_of(source, columns, rows=1, done={}, consumers=1), 0) as handout:
        batches = iter(WindowLoader(source, preprocessor, rows=1, work=handout.address, num_workers=workers))
        assert next(batches).window.index == 0
    with pytest.raises(EngineError, match="the process that hands out the work has ended"):
        list(batches)


@pytest.mark.parametrize("kind", [RuntimeError, EOFError, ConnectionResetError])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_a_window_is_prepared_is_no_end_of_a_worker(preprocessor, tmp_path, workers, kind):
    loader = WindowLoader(write(tmp_path / "t.csv", "1,x,1,web"), Raising(kind, preprocessor), num_workers=workers)
    with pytest.raises(kind, match="not this one") as caught:
        list(loader)
    assert not isinstance(caught.value, EngineError)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_are_started_so_that_they_never_see_ctrl_c(preprocessor, tmp_path, monkeypatch, workers):
    blocked = []

    def start(loader):
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return iter([])

    monkeypatch.setattr(DataLoader, "__iter__", start)
    list(WindowLoader(write(tmp_path / "t.csv"), preprocessor, num_workers=workers))
    assert blocked == [workers > 0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_that_dies_is_an_error_for_people(toy_site, tmp_path):
    config = CONFIG.model_copy(update={"tab_field_list": []})
    trap = Pipeline([StepSpec("toy_trap"), StepSpec("toy_tokens")], StepContext("chat"))
    source = write(tmp_path / "t.csv", "1,KILL,1,web")
    handler = signal.getsignal(signal.SIGCHLD)
    words = r"(?s)prepares windows died: process \d+ was killed by SIGKILL.*shared memory.*--num-workers 0"
    with pytest.raises(EngineError, match=words):
        list(WindowLoader(source, Preprocessor(config, {"chat": trap}, {}, {}, keep=["id"]), num_workers=1))
    assert signal.getsignal(signal.SIGCHLD) is handler  # torch's own raises its error in the middle of a model class


def test_no_window_follows_a_signal_whose_exception_was_swallowed(preprocessor, tmp_path):
    loader, seen = WindowLoader(write(tmp_path / "t.csv", "1,x,1,web", "2,x,1,web"), preprocessor, rows=1), []

    def score():
        with interruptible():
            for batch in loader:
                seen.append(batch.window.index)
                with suppress(Interrupted):
                    signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        score()
    assert seen == [0]


def test_workers_that_cannot_be_started_are_an_error_for_people(preprocessor, tmp_path, monkeypatch):
    def full(loader):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DataLoader, "__iter__", full)
    with pytest.raises(EngineError, match=r"(?s)cannot be started: No space left.*/dev/shm.*--num-workers 0"):
        list(WindowLoader(write(tmp_path / "t.csv"), preprocessor, num_workers=1))


def test_a_batch_needs_no_shared_memory(preprocessor, tmp_path, monkeypatch):
    """Also one that comes from a worker: a container often has little of it."""
    loader = WindowLoader(write(tmp_path / "t.csv", "1,x,1,web"), preprocessor, num_workers=1)
    assert [batch.features.is_shared() for batch in loader] == [False]


HERE_ALONE = """
import multiprocessing
from bsm_core import TextStep

if multiprocessing.parent_process():
    raise ValueError("not in a worker")

class Shout(TextStep):
    def process(self, value):
        return value.upper()
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_a_worker_looks_steps_up_in_the_same_registry_and_tells_why_it_cannot(toy_site, tmp_path, breaks):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/acme.py").write_text(HERE_ALONE if breaks else HERE_ALONE.replace("raise", "_ ="))
    targets = {"mine": "acme:Shout", "tokens": "toy_bsm_steps:ToyTokens"}
    registry = Registry(component("step", name, target, "acme", "2.0") for name, target in targets.items())
    config = CONFIG.model_copy(update={"tab_field_list": []})
    with on_path(tmp_path / "site"):
        pipeline = Pipeline([StepSpec("mine"), StepSpec("tokens")], StepContext("chat"), registry=registry)
        loader = WindowLoader(
            write(tmp_path / "t.csv", "1,hi,1,web"), Preprocessor(config, {"chat": pipeline}, {}, {}), num_workers=1
        )
        if breaks:
            with pytest.raises(ComponentLoadError, match=r"ValueError: not in a worker \(acme:Shout of acme 2\.0\)"):
                list(loader)
        else:
            assert [decoded(batch) for batch in loader] == [["HI"]]
