"""Standard error on a terminal and elsewhere: log lines, the bar, the plan, the summary and errors."""

from __future__ import annotations

import json
import logging
import signal
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from support.terminals import Terminal

from bsm_core.cli.exit_status import Command, exit_status
from bsm_core.cli.terminal.screen import Screen, console_of, is_terminal
from bsm_core.errors import DataError
from bsm_core.runtime.log import Style
from bsm_core.runtime.profile import Advance, Ended, is_shown, notify
from bsm_core.scoring.run_events import Finished, Outline

log = logging.getLogger("bsm")
pytestmark = pytest.mark.usefixtures("quiet_log")

OUTLINE = Outline(
    data_path="rows.csv",
    model="m\x1b[2Jodel",
    output="out/p.csv",
    rows=9000,
    done=4096,
    window_rows=4096,
    files="1 csv file(s)",
    devices="1 CPU process(es)",
    model_class="bimodal_bert",
    compat="original",
    precision="fp32",
    backends={"text": "tuned"},
    text={"chat": ["a", "b"]},
    features=[f"f{n}" for n in range(12)],
    kept=["id"],
    classes=2,
    provided={"text step shout": "acme 1.0"},
)
COUNTS = {
    "reason:feature:not a number:age": 7,
    "reason:model:failed:": 1,
    "unseen:channel": 12,
    "missing:age": 3,
    "ids:repeated": 2,
    "bad_rows": 8,
}
DONE = Finished(Path("out/p.csv"), 9000, 0, 12.5, "1 CPU process(es)", "auto", COUNTS, (3000, 6000))
ERROR = DataError("no good\x1b[2J", where="a.csv", details=["line 3"], fix="mend it", settings=[{"limit": "9"}])


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


PLAIN = Style()


def show(stream, *events, style=PLAIN):
    with redirect_stderr(stream), Screen(style).open():
        for event in events:
            notify(event) if not isinstance(event, str) else log.warning(event)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"TERM": "dumb"}, False), ({"TERM": ""}, False), ({"CI": "true"}, False), ({"NO_COLOR": "1"}, True)],
)
def test_what_is_a_terminal(terminal, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_terminal(terminal) is expected


def test_the_plan_stands_in_lines_of_the_terminal(terminal):
    show(terminal, OUTLINE)
    text = terminal.text()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[2J" not in terminal.getvalue()
    words = " ".join(text.split())
    for word in (
        "data rows.csv (1 csv file(s))",
        "rows 9,000 in 3 window(s), 4,096 at a time; 4,096 are done already",
        r"model m\x1b[2Jodel (bimodal_bert, compat: original)",
        "device 1 CPU process(es), fp32, backend tuned",
        "text 'chat' a > b",
        "features 12: f0, f1, f2, f3, f4, f5, f6, f7, ...",
        "text step shout from acme 1.0",
        "output out/p.csv",
    ):
        assert word in words


def test_the_summary_says_what_was_done_what_was_unusual_and_what_comes_next(terminal):
    show(terminal, DONE)
    text = terminal.text()
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for word in (
        "rows 9,000 in 12.5 s (720 rows/s)",
        "33.3% 3,000",
        "66.7% 6,000",
        "7 column 'age', feature: not a number 1 model: failed",
        "categories that the risk tables do not have 12 channel",
        "missing values 3 age",
        "ids 2 repeated",
        "predictions out/p.csv",
        "--row-issues issues.csv",
    ):
        assert word in words


TRIAL = "this is a trial on the first 100 rows: leave --limit out to score all"
REPORT, EVALUATE = (
    "draw a report of the run: bsm report out",
    "when the labels are known: bsm evaluate out --labels FILE",
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, [EVALUATE]),
        ({"recorded": True}, [REPORT, EVALUATE]),
        ({"recorded": True, "report": Path("p.html")}, [EVALUATE]),
        ({"limit": 100, "recorded": True}, [TRIAL]),
        ({"limit": 100, "counts": COUNTS}, ["--row-issues issues.csv", TRIAL]),
        ({"limit": 100, "counts": COUNTS, "row_issues": Path("i.csv")}, ["row issues i.csv", TRIAL]),
        ({"path": Path("my out/p.csv")}, ["bsm evaluate 'my out' --labels FILE"]),
    ],
)
def test_the_summary_advises_what_fits_the_run(terminal, monkeypatch, changes, said):
    monkeypatch.setenv("COLUMNS", "120")
    show(terminal, replace(DONE, **{"counts": {}, **changes}))
    text = " ".join(terminal.text().split())
    assert all(word in text for word in said)
    assert text.count("next ") + text.count("row issues i.csv") == len(said)


def test_the_bars_have_the_names_of_the_classes(terminal):
    show(terminal, replace(DONE, names=["fine", "no\x1b[2J " + 40 * "t"]))
    lines = terminal.text().splitlines()
    assert any(line.startswith("  fine ") and line.endswith("33.3% 3,000") for line in map(str.rstrip, lines))
    assert any(line.startswith(r"  no\x1b[2J ttt") and "…" in line for line in lines)
    show(terminal, replace(DONE, names=[3, 5]))
    assert "\n  class 5 " in terminal.text()


def test_log_lines_stand_above_the_bar_and_the_bar_is_gone_at_the_end(terminal):
    event = Advance("scoring", 512, 0.05, 9000, True, 4.0, times={"read": 1.0, "text": 1.0, "model": 2.0})
    show(terminal, event, "half way", event, Ended(), "later")
    lines = [line.strip() for line in terminal.text().replace("\r", "\n").split("\n") if line.strip()]
    said = [line for line in lines if "WARNING" in line]
    assert [line.partition("WARNING ")[2] for line in said] == ["half way", "later"]
    bars = [line for line in lines if "rows" in line]
    assert all("5% 512/9,000 rows 128/s 01:16 left read 25% text 25% model 50%" in bar for bar in bars)
    assert terminal.getvalue().rstrip().endswith("later")
    assert "\x1b[33mWARNING" in terminal.getvalue()


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
def test_the_bar_is_one_line_however_wide_the_terminal_is(terminal, monkeypatch, columns):
    from bsm_core.cli.terminal.bar import BarLine

    monkeypatch.setenv("COLUMNS", str(columns))
    times = {"read": 1.0, "text": 1.0, "model": 2.0}
    event = Advance("scoring", 1_234_567, 0.17, 7_262_159, False, 100.0, times=times)
    console_of(terminal).print(BarLine(event))
    [line] = terminal.text().splitlines()
    assert len(line) < columns
    assert "17% 1,234,567/~7,260,000 rows" in line
    assert ("model 50%" in line) == (columns == 160)


def test_without_color_there_is_none(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    show(terminal, OUTLINE, "x", DONE)
    assert not any(f"\x1b[{code}m" in terminal.getvalue() for code in (31, 32, 33, 36))
    assert "720 rows/s" in terminal.text()


def test_quiet_shows_warnings_alone(terminal):
    show(terminal, OUTLINE, Advance("scoring", 5, is_due=True), "heard", DONE, style=Style(quiet=True))
    assert terminal.text().partition("WARNING ")[2] == "heard\n"


def test_a_quiet_command_is_not_spared_the_warnings_that_a_summary_would_have_replaced(terminal):
    with redirect_stderr(terminal), Screen(Style(quiet=True)).open():
        assert not is_shown()


def test_elsewhere_events_are_log_lines(capsys):
    show(sys.stderr, OUTLINE, Advance("scoring", 5), Advance("scoring", 5, seconds=1.0, is_due=True), Ended(), DONE)
    lines = capsys.readouterr().err.splitlines()
    heads = [line.partition("INFO ")[2] for line in lines if " INFO " in line]
    assert heads == [
        "plan",
        "5 rows, 5 rows/s",
        "9,000 rows in 12.5 s (720 rows/s) on 1 CPU process(es), device asked for: auto",
        "predictions: out/p.csv",
    ]
    assert r"  model: m\x1b[2Jodel (bimodal_bert, compat: original)" in lines


def test_as_json_every_line_is_an_object_on_a_terminal_too(terminal):
    show(terminal, OUTLINE, DONE, "x", style=Style(as_json=True))
    with redirect_stderr(terminal):
        Screen(Style(as_json=True)).show_error(ERROR)
    plan, done, path, other, error = map(json.loads, terminal.getvalue().splitlines())
    assert (plan["event"], plan["rows"], plan["text"]) == ("outline", 9000, {"chat": ["a", "b"]})
    assert (done["event"], done["counts"], done["path"]) == ("finished", COUNTS, "out/p.csv")
    assert ("event" in path, other["message"]) == (False, "x")
    assert list(error)[:3] == ["time", "level", "message"]
    assert {name: error[name] for name in ("level", "error", "what", "where", "details", "fix")} == {
        "level": "ERROR",
        "error": "DataError",
        "what": "no good\x1b[2J",
        "where": "a.csv",
        "details": ["line 3"],
        "fix": "mend it, or give --limit 9",
    }


def test_an_error_is_a_panel_that_says_what_where_and_how_to_fix_it(terminal):
    def fail():
        raise ERROR

    with redirect_stderr(terminal):
        assert exit_status(lambda: Command(fail, Style())) == 1
    text = terminal.text()
    assert "\x1b[2J" not in terminal.getvalue()
    assert text.startswith("╭─ DataError ──")
    for word in (r"no good\x1b[2J", "in a.csv", "line 3", "To fix: mend it, or give --limit 9"):
        assert word in text
    assert "Traceback" not in text


def test_the_end_by_a_signal_is_an_object_of_json_too(capsys):
    def end():
        signal.raise_signal(signal.SIGTERM)

    assert exit_status(lambda: Command(end, Style(as_json=True))) == 143
    line = json.loads(capsys.readouterr().err)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "ERROR", "message": "interrupted by SIGTERM"}


def test_what_listens_is_gone_after_the_command(terminal):
    with redirect_stderr(terminal):
        assert exit_status(lambda: Command(lambda: int(not is_shown()), Style())) == 0
    assert not is_shown()


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_is_closed_is_no_error(monkeypatch, closed):
    """Python sets it to None, as after ``2>&-`` in a shell."""
    monkeypatch.setattr(sys, closed, None)

    def work():
        print("x", file=getattr(sys, closed))
        raise ERROR

    assert exit_status(lambda: Command(work, Style())) == 1
