"""Standard output: as it is in a pipe, and as wide as a terminal."""

from __future__ import annotations

from contextlib import redirect_stdout
from pathlib import Path

import pytest
from support.terminals import Terminal

from bsm_core.cli.output import say, say_json, say_table
from bsm_core.errors import SinkError

TEXT = "artifact\n  " + "word " * 30 + "\n  a\x1bb\nproblems\n  none"
TABLE = [("name", "status"), ("shout", "alias of " + "x" * 90), ("é", "")]


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    return Terminal()


def test_in_a_pipe_lines_are_as_they_are(capsys):
    say(TEXT)
    assert capsys.readouterr().out == TEXT.replace("\x1b", r"\x1b") + "\n"
    say_table(TABLE)
    assert capsys.readouterr().out == "name   status\nshout  alias of " + "x" * 90 + "\né\n"


def test_on_a_terminal_long_lines_go_on_below_their_text_and_titles_are_bold(terminal):
    with redirect_stdout(terminal):
        say(TEXT)
    lines = terminal.text().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:8].rstrip() for line in lines] == [
        "artifact",
        "  word w",
        "      wo",
        r"  a\x1bb",
        "problems",
        "  none",
    ]
    assert "\x1b[1martifact" in terminal.getvalue()


def test_on_a_terminal_a_table_folds_its_cells(terminal):
    with redirect_stdout(terminal):
        say_table(TABLE)
    lines = terminal.text().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 5
    assert "".join(lines).count("x") == 90


def test_json_is_never_folded(terminal):
    with redirect_stdout(terminal):
        say_json({"a": "x" * 200})
    assert terminal.getvalue() == '{\n  "a": "' + "x" * 200 + '"\n}\n'


def test_standard_output_that_is_full_is_an_error_for_people():
    with (
        Path("/dev/full").open("w") as full,
        redirect_stdout(full),
        pytest.raises(SinkError, match="standard output cannot be written: No space left on device"),
    ):
        say("x")
