from __future__ import annotations

import itertools
import logging
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bsm_core.models.batch import Batch
from bsm_core.runtime.profile import SCORING, Advance, Ended, Times, listening
from bsm_core.scoring.engines import callbacks
from bsm_core.scoring.engines.callbacks import SECONDS_BETWEEN_LINES, Progress, WindowProgress
from bsm_core.scoring.output.manifest import PartRecord, WorkFolder


def window(start, rows, fraction, last=False):
    return Batch(rows, window=SimpleNamespace(start=start, fraction=fraction, last=last, times={}))


@pytest.fixture
def clock(monkeypatch):
    """The time as :class:`Progress` sees it, which a test can set."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def lines(monkeypatch, caplog):
    """The lines that are logged."""
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    caplog.set_level(logging.INFO, "bsm")
    return caplog


def report(callback, *windows):
    for index, batch in enumerate(windows):
        callback.on_predict_batch_end(None, None, None, batch, index)


# In the log


def test_a_line_now_and_then(lines, clock):
    callback = WindowProgress(Progress())
    clock.seconds += 1000  # loading the model is no part of the rate
    callback.on_predict_start(None, None)
    for step in range(7):
        clock.seconds += SECONDS_BETWEEN_LINES / 2
        report(callback, window(step * 100, 100, (step + 1) / 20))
    callback.on_predict_end(None, None)
    assert [record.getMessage() for record in lines.records] == [
        "200 rows, 20 rows/s, 01:30 left",
        "400 rows, 20 rows/s, 01:20 left",
        "600 rows, 20 rows/s, 01:10 left",
    ]


def test_a_resumed_run_reckons_with_the_rows_of_its_own_attempt(lines, clock):
    callback = WindowProgress(Progress(9000))
    callback.on_predict_start(None, None)
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(9000, 100, 0.91))
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(9100, 100, 0.92))
    assert [record.getMessage() for record in lines.records] == [
        "9,100 rows, 10 rows/s, 01:30 left",
        "9,200 rows, 10 rows/s, 01:20 left",
    ]


def test_no_time_is_left_to_tell_once_all_is_read(lines, clock):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(0, 100, 1.0))
    assert [record.getMessage() for record in lines.records] == ["100 rows, 10 rows/s"]


def test_a_short_run_logs_nothing(lines, clock):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 10, 0.5), window(10, 10, 1.0))
    callback.on_predict_end(None, None)
    assert not lines.records


@pytest.mark.parametrize(
    ("rows", "share", "seconds", "line"),
    [
        (12288, 0.5, 12.0, "12,288 rows, 1,024 rows/s, 00:12 left"),
        (10, 0.001, 20.0, "10 rows, 0 rows/s, 5:33:00 left"),
        (10, 1.0, 10.0, "10 rows, 1 rows/s, 00:00 left"),
        (10, 0.0, 10.0, "10 rows, 1 rows/s"),
        (0, 1.0, 0.0, "0 rows, 0 rows/s, 00:00 left"),
        (0, 0.0, 0.0, "0 rows, 0 rows/s"),
    ],
)
def test_the_line(rows, share, seconds, line):
    event = Advance(SCORING, rows, share, seconds=seconds, is_due=True)
    assert event.lines() == [line]
    assert replace(event, is_due=False).lines() == ()
    assert replace(event, what="epoch 2 of 3").lines() == [f"epoch 2 of 3: {line}"]


# Shown


@pytest.fixture
def shown(lines):
    """The events that a terminal shows."""
    events = []
    with listening(events.append, shows=True):
        yield events
    assert not lines.records


def totals(shown):
    """Return rows and total of each event that has some."""
    return [(event.rows, event.total) for event in shown if isinstance(event, Advance) and event.rows]


def test_a_total_is_estimated_once_and_does_not_grow(shown):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, *(window(n * 100, 100, (n + 1) / 10 * (1 + 0.01 * n)) for n in range(5)))
    report(callback, window(500, 100, 0.3), window(600, 50, 1.0, last=True))
    callback.on_predict_end(None, None)
    assert totals(shown) == [*((100 * n, 1000) for n in range(1, 6)), (600, 2000), (650, 650)]
    assert [event.is_exact for event in shown[1:-1]] == [False] * 6 + [True]
    assert isinstance(shown[-1], Ended)


def test_a_total_that_is_known_is_that_from_the_first_row_on(shown):
    callback = WindowProgress(Progress(50, 9000))
    callback.on_predict_start(None, None)
    report(callback, window(50, 100, 1.0), window(150, 100, 0.9))
    assert totals(shown) == [(50, 9000), (150, 9000), (250, 9000)]
    assert all(event.is_exact for event in shown)
    assert shown[-1].share == 250 / 9000


def test_all_read_is_not_all_done(shown):
    """A small file is read as one block, and its windows are cut from that."""
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 100, 1.0), window(100, 100, 1.0), window(200, 50, 1.0, last=True))
    assert totals(shown) == [(100, None), (200, None), (250, 250)]


def test_a_total_that_was_estimated_stands_until_the_end_shows_the_true_one(shown):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 100, 0.25), window(100, 100, 1.0), window(200, 80, 1.0, last=True))
    assert totals(shown) == [(100, 400), (200, 400), (280, 280)]


def test_the_time_of_each_stage_is_told_with_that_of_the_last_window(shown):
    times = Times({"model": 2.0, "total": 9.0, "self-check": 3.0})
    callback = WindowProgress(Progress(), times=times)
    callback.on_predict_start(None, None)
    batch = window(0, 100, 0.5)
    batch.window.times = Times({"reading": 1.0, "chat: reading": 0.5, "chat: tokenizer": 1.5, "features": 1.0})
    report(callback, batch)
    assert shown[-1].times == {"read": 1.0, "text": 3.0, "model": 2.0}
    assert times == {"model": 2.0, "total": 9.0, "self-check": 3.0}


def test_the_first_of_several_processes_reports_the_rows_of_all(shown, clock, tmp_path):
    work, told = WorkFolder(tmp_path), []
    work.path.mkdir()

    def scored(window):
        work.add(PartRecord(window, 10, False, None, 1, "", {}, 1))

    scored(0)  # by an earlier attempt
    callback = WindowProgress(Progress(10), work)
    callback.on_predict_start(None, None)
    for window_, others, fraction in ((4, [1, 2], 0.5), (3, [4, 5, 6], 0.4), (8, [3, 7], 0.9)):
        for other in others:
            scored(other)
        clock.seconds += 1
        report(callback, window(10 * window_, 10, fraction))
        told.append(totals(shown)[-1])
    assert told == [(30, 100), (60, 100), (80, 100)]
    scored(9)
    callback.on_predict_end(None, None)
    assert totals(shown)[-1][0] == 90


@pytest.mark.parametrize(("is_shown", "pause"), [(None, SECONDS_BETWEEN_LINES), (False, 1.0), (True, 1.0)])
def test_the_rows_of_others_are_counted_only_for_a_report(lines, clock, tmp_path, is_shown, pause):
    counted = []

    class Counting(WorkFolder):
        def rows_on(self, rows, read):
            counted.append(clock.seconds)
            return len(counted) * 1000, len(counted)

    with nullcontext() if is_shown is None else listening(lambda event: None, shows=is_shown):
        callback = WindowProgress(Progress(), Counting(tmp_path))
        callback.on_predict_start(None, None)
        for step in range(16):
            clock.seconds += pause / 4
            report(callback, window(step * 10, 10, (step + 1) / 20))
    assert len(counted) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(counted)) >= pause
    said = ["1,000 rows", "2,000 rows", "3,000 rows", "4,000 rows"]
    assert [record.getMessage()[:10] for record in lines.records] == (said if is_shown is None else [])


def test_windows_in_any_order_never_lower_the_number(shown):
    """As loader workers return them."""
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(40, 10, 0.5), window(0, 10, 0.1))
    assert totals(shown)[-1] == (20, 100)


def test_an_error_ends_the_report(shown):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    callback.on_exception(None, None, RuntimeError())
    assert isinstance(shown[-1], Ended)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_of_an_empty_table_there_is_no_share(shown, clock, fraction):
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(0, 0, fraction, last=True))
    assert [event.share for event in shown if isinstance(event, Advance)] == [0.0, 0.0]
