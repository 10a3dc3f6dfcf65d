"""``bsm import``: the arguments that the function gets, and what is printed."""

from __future__ import annotations

import pytest

from bsm_core import cli, training


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each call of the function that imports."""
    found = []
    monkeypatch.setattr(training, "import_model", lambda *places, **options: found.append((places, options)) or "made")
    return found


def test_every_flag_reaches_the_function(calls, capsys, tmp_path):
    flags = {"text_column": "review", "max_sen_len": "64", "config": "c.toml", "data": "rows.csv"}
    given = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert cli.main(["import", str(tmp_path), "new", *given]) == 0
    [(places, options)] = calls
    assert [*map(str, places)] == [str(tmp_path), "new"]
    assert {name: str(value) for name, value in options.items()} == flags
    assert capsys.readouterr().out == "made\n"


def test_nothing_but_the_places_is_required(calls):
    assert cli.main(["import", "old", "new"]) == 0
    assert set(calls[0][1].values()) == {None}


@pytest.mark.parametrize("number", ["0", "-3", "x", "1.5"])
def test_lengths_that_are_none(number, capsys):
    with pytest.raises(SystemExit):
        cli.main(["import", "old", "new", "--max-sen-len", number])
    assert "max-sen-len" in capsys.readouterr().err
