"""Log lines for the user, on standard error."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

from bsm_core.errors import BSMError, printable


class Lines(str):
    """Text of several lines, which a log message keeps as lines."""

    __slots__ = ()


def configure(level: int = logging.INFO) -> None:
    """Send log lines of the logger ``"bsm"`` to standard error; loggers of other libraries stay unchanged."""
    logger = logging.getLogger("bsm")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level)


class _Formatter(logging.Formatter):
    """Formatter whose lines hold no control characters: names and values in a message may come from anyone.

    The second and further lines of a message are indented, so that none of them looks like a message.
    """

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers get the record as it is
        if isinstance(record.args, tuple):
            record.args = tuple(map(_shown, record.args))
        first, *others = super().format(record).split("\n")
        return "\n".join([printable(first), *(f"  {printable(line)}" for line in others)])


class _OneLine(str):
    __slots__ = ()

    def __str__(self) -> str:
        return printable(super().__str__())


def _shown(value: object) -> object:
    """Return an argument of a message as it is shown: a text in one line, unless its lines are our own."""
    if isinstance(value, Lines | BSMError) or not isinstance(value, str | Path | BaseException):
        return value
    return _OneLine(value)
