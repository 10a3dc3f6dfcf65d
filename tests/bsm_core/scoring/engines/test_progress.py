from __future__ import annotations

import fcntl
import io
import itertools
import logging
import os
import re
import struct
import sys
import termios
from types import SimpleNamespace

import pytest

from bsm_core.models.batch import Batch
from bsm_core.scoring.engines import callbacks
from bsm_core.scoring.engines.callbacks import SECONDS_BETWEEN_LINES, Progress, WindowProgress, progress_line
from bsm_core.scoring.output.manifest import PartRecord, WorkFolder


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def window(start, rows, fraction, last=False):
    return Batch(rows, window=SimpleNamespace(start=start, fraction=fraction, last=last))


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


@pytest.fixture
def stand_on(monkeypatch):
    """Puts a terminal, or something else, in the place of stderr; pytest's own comes only once the test runs."""

    def put(terminal):
        stream = Stream(terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return put


def report(callback, *windows):
    for index, batch in enumerate(windows):
        callback.on_predict_batch_end(None, None, None, batch, index)


# Elsewhere than on a terminal


def test_a_line_now_and_then(stand_on, lines, clock):
    stderr = stand_on(terminal=False)
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
    assert stderr.getvalue() == ""


def test_a_resumed_run_reckons_with_the_rows_of_its_own_attempt(stand_on, lines, clock):
    stand_on(terminal=False)
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


def test_no_time_is_left_to_tell_once_all_is_read(stand_on, lines, clock):
    stand_on(terminal=False)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(0, 100, 1.0))
    assert [record.getMessage() for record in lines.records] == ["100 rows, 10 rows/s"]


def test_a_short_run_logs_nothing(stand_on, lines, clock):
    stand_on(terminal=False)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 10, 0.5), window(10, 10, 1.0))
    callback.on_predict_end(None, None)
    assert not lines.records


@pytest.mark.parametrize(
    ("rows", "fraction", "seconds", "line"),
    [
        (12288, 0.5, 12.0, "12,288 rows, 1,024 rows/s, 00:12 left"),
        (10, 0.001, 20.0, "10 rows, 0 rows/s, 5:33:00 left"),
        (10, 1.0, 10.0, "10 rows, 1 rows/s, 00:00 left"),
        (10, 0.0, 10.0, "10 rows, 1 rows/s"),
        (0, 1.0, 0.0, "0 rows, 0 rows/s, 00:00 left"),
        (0, 0.0, 0.0, "0 rows, 0 rows/s"),
    ],
)
def test_the_line(rows, fraction, seconds, line):
    assert progress_line(rows, fraction, seconds) == line


# On a terminal


def test_a_bar_whose_total_is_estimated_from_the_share_that_was_read(stand_on, lines):
    terminal = stand_on(terminal=True)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 100, 0.25))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (100, 400)
    report(callback, window(100, 100, 0.4), window(200, 50, 1.0, last=True))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (250, 250)
    callback.on_predict_end(None, None)
    last = re.split(r"[\r\n]", terminal.getvalue().rstrip())[-1]
    assert last.startswith("scoring: 100%")
    assert "250/250" in last
    assert terminal.getvalue().endswith("\n")
    assert not lines.records


def test_all_read_is_not_all_done(stand_on):
    """A small file is read as one block, and its windows are cut from that."""
    terminal = stand_on(terminal=True)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 100, 1.0), window(100, 100, 1.0))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (200, None)
    assert "%" not in terminal.getvalue()
    report(callback, window(200, 50, 1.0, last=True))
    callback.on_predict_end(None, None)
    assert (callback._progress._bar.n, callback._progress._bar.total) == (250, 250)


def test_a_total_that_was_estimated_stands_until_the_end_shows_the_true_one(stand_on):
    stand_on(terminal=True)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 100, 0.25), window(100, 100, 1.0))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (200, 400)
    report(callback, window(200, 100, 1.0), window(300, 80, 1.0, last=True))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (380, 380)
    callback.on_predict_end(None, None)


def test_a_terminal_that_does_not_know_its_size(monkeypatch):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    shown = b""
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        callback = WindowProgress(Progress())
        callback.on_predict_start(None, None)
        report(callback, window(0, 100, 1.0, last=True))
        callback.on_predict_end(None, None)
        while not shown.endswith(b"\n"):
            shown += os.read(ours, 4096)
    os.close(ours)
    assert b"100/100" in shown


def test_the_first_of_several_processes_reports_the_rows_of_all(stand_on, clock, tmp_path):
    stand_on(terminal=True)
    work, shown = WorkFolder(tmp_path), []
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
        shown.append((callback._progress._bar.n, callback._progress._bar.total))
    assert shown == [(30, 100), (60, 100), (80, 100)]
    scored(9)
    bar = callback._progress._bar
    callback.on_predict_end(None, None)
    assert bar.n == 90


@pytest.mark.parametrize(("terminal", "pause"), [(False, SECONDS_BETWEEN_LINES), (True, 1.0)])
def test_the_rows_of_others_are_counted_only_for_a_report(stand_on, lines, clock, tmp_path, terminal, pause):
    stand_on(terminal)
    counted = []

    class Counting(WorkFolder):
        def rows_on(self, rows, read):
            counted.append(clock.seconds)
            return len(counted) * 1000, len(counted)

    callback = WindowProgress(Progress(), Counting(tmp_path))
    callback.on_predict_start(None, None)
    for step in range(16):
        clock.seconds += pause / 4
        report(callback, window(step * 10, 10, (step + 1) / 20))
    assert len(counted) == 4
    assert min(later - earlier for earlier, later in itertools.pairwise(counted)) >= pause
    said = ["1,000 rows", "2,000 rows", "3,000 rows", "4,000 rows"]
    assert [record.getMessage()[:10] for record in lines.records] == ([] if terminal else said)
    callback.on_predict_end(None, None)


def test_windows_in_any_order_never_lower_the_number(stand_on):
    """As loader workers return them."""
    stand_on(terminal=True)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(40, 10, 0.5), window(0, 10, 0.1))
    assert (callback._progress._bar.n, callback._progress._bar.total) == (20, 100)
    callback.on_predict_end(None, None)


def test_an_error_stands_on_a_line_of_its_own(stand_on):
    terminal = stand_on(terminal=True)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    report(callback, window(0, 10, 0.5))
    callback.on_exception(None, None, RuntimeError())
    assert terminal.getvalue().endswith("\n")
    written = terminal.getvalue()
    callback.on_predict_end(None, None)
    assert terminal.getvalue() == written


@pytest.mark.parametrize("fraction", [0.0, 1.0])
@pytest.mark.parametrize("tty", [True, False])
def test_an_empty_table(stand_on, clock, tty, fraction):
    stream = stand_on(tty)
    callback = WindowProgress(Progress())
    callback.on_predict_start(None, None)
    clock.seconds += SECONDS_BETWEEN_LINES
    report(callback, window(0, 0, fraction, last=True))
    callback.on_predict_end(None, None)
    assert "%" not in stream.getvalue()  # of nothing there is no share


def test_the_end_of_a_run_that_never_began(stand_on):
    terminal = stand_on(terminal=True)
    WindowProgress(Progress()).on_exception(None, None, RuntimeError())
    assert terminal.getvalue() == ""
