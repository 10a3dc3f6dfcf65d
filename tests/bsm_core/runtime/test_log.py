from __future__ import annotations

import logging
import re
import sys

import pytest

from bsm_core.runtime.log import Lines, configure


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


def test_the_level_is_a_choice(logger, capsys):
    configure(logging.WARNING)
    logger.info("unheard")
    logger.warning("heard")
    assert capsys.readouterr().err.endswith("WARNING heard\n")
    configure(logging.DEBUG)
    logger.debug("now heard")
    assert capsys.readouterr().err.endswith("DEBUG now heard\n")


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
