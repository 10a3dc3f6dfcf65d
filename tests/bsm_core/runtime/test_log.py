from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime
from pathlib import Path

import pytest

from bsm_core.runtime.log import Lines, Style, configure, current_style


@pytest.fixture
def logger(monkeypatch):
    """bsm's logger as it is before anybody configures it."""
    found = logging.getLogger("bsm")
    level = found.level
    monkeypatch.setattr(found, "handlers", [])
    monkeypatch.setattr(found, "propagate", True)
    yield found
    found.setLevel(level)


def test_twice_is_once(logger):
    configure()
    configure()
    (handler,) = logger.handlers
    assert handler.stream is sys.stderr


def test_a_line_says_when_and_how_bad_and_is_said_once(logger, capsys, caplog):
    configure()
    logger.info("%s rows", 3)
    logger.debug("unheard")
    captured = capsys.readouterr()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO 3 rows\n", captured.err)
    assert captured.out == ""
    assert not caplog.records  # they do not reach the root logger, whose handlers would say them again


def test_quiet_is_warnings_alone_until_the_next_command(logger, capsys):
    configure(Style(quiet=True))
    logger.info("unheard")
    logger.warning("heard")
    configure()
    logger.info("unheard")
    configure(Style())
    logger.info("now heard")
    said = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["WARNING heard", "INFO now heard"]


def test_lines_of_json_have_the_data_of_a_record(logger, capsys):
    configure(Style(as_json=True))
    logger.warning("%s\x1b", "a\nb", extra={"data": {"rows": 3, "path": Path("x")}})
    first, *others = capsys.readouterr().err.splitlines()
    assert others == []
    content = json.loads(first)
    assert datetime.fromisoformat(content.pop("time")).tzinfo is not None
    assert content == {"level": "WARNING", "message": "a\\nb\x1b", "rows": 3, "path": "x"}
    assert current_style() == Style(as_json=True)


def test_a_line_beside_the_bar_of_another_process_begins_where_the_bar_does(logger, capsys):
    configure(Style(beside_bar=True))
    logger.info("x")
    assert re.fullmatch(r"\r\x1b\[2K\d\d:\d\d:\d\d INFO x\n", capsys.readouterr().err)


def test_lines_go_through_a_function(logger, capsys):
    shown = []
    configure(Style(), lambda record, line: shown.append((record.levelname, line.partition(" ")[2])))
    logger.info("x")
    assert shown == [("INFO", "INFO x")]
    assert capsys.readouterr().err == ""


def test_a_line_cannot_be_forged(logger, capsys, tmp_path):
    configure()
    logger.warning("no %s in %s, %r: %d%% %.2f\nmore", "x\n12:00:00 INFO y\x1b[2J", tmp_path / "a\nb", "\x1b", 3, 0.5)
    logger.error("%s", ValueError("z\n12:00:00 INFO y"))
    logger.info("a table:\n%s", Lines("1\x1b\n2"))
    try:
        raise ValueError("z\n12:00:00 INFO y\x1b[2J")
    except ValueError:
        logger.info("as it was", exc_info=True)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].endswith(rf"no x\n12:00:00 INFO y\x1b[2J in {tmp_path}/a\nb, '\x1b': 3% 0.50")
    assert shown[1] == "  more"
    assert shown[2].endswith(r"ERROR z\n12:00:00 INFO y")
    assert shown[4:6] == [r"  1\x1b", "  2"]
    assert shown[-1] == r"  12:00:00 INFO y\x1b[2J"


def test_the_handlers_of_others_stay_as_they_are(logger):
    theirs = logging.NullHandler()
    logger.addHandler(theirs)
    root = list(logging.getLogger().handlers)
    configure()
    assert logger.handlers == [theirs]
    assert logging.getLogger().handlers == root
