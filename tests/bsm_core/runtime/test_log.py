from __future__ import annotations

import logging
import re
import sys

import pytest

from bsm_core.runtime.log import configure


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


def test_the_handlers_of_others_stay_as_they_are(logger):
    theirs = logging.NullHandler()
    logger.addHandler(theirs)
    root = list(logging.getLogger().handlers)
    configure()
    assert logger.handlers == [theirs]
    assert logging.getLogger().handlers == root
