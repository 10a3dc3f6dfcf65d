"""Log lines for the user, on standard error."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bsm_core.errors import BSMError, printable

_ERASE = "\r\x1b[2K"
"""Return to the beginning of the line and erase it: a progress bar of another process may stand there."""


class Lines(str):
    """Text of several lines, which a log message keeps as lines."""

    __slots__ = ()


class Style(NamedTuple):
    """How log lines are written; what a process hands on to those that it starts.

    Attributes:
        as_json: Whether each line is a JSON object.
        quiet: Whether warnings and errors alone are written.
        beside_bar: Whether another process may show a progress bar on the same terminal.
    """

    as_json: bool = False
    quiet: bool = False
    beside_bar: bool = False


def configure(style: Style | None = None, show: Callable[[logging.LogRecord, str], None] | None = None) -> None:
    """Send log lines of the logger ``"bsm"`` to standard error; loggers of other libraries stay unchanged.

    Args:
        style: How they are written. None: as before, and as text in a process that was not configured.
        show: Function that writes a record and its line, in place of standard error.
    """
    logger = logging.getLogger("bsm")
    handler = next((each for each in logger.handlers if isinstance(each, _Handler)), None)
    if handler is None:
        if logger.handlers and style is None:  # a caller has configured the logger
            return
        handler = _Handler()
        logger.addHandler(handler)
        logger.propagate = False
    if style is not None:
        handler.style = style
        handler.setFormatter(_JSONFormatter() if style.as_json else _Formatter(_FORMAT, "%H:%M:%S"))
    handler.show = show
    logger.setLevel(logging.WARNING if handler.style.quiet else logging.INFO)


def current_style() -> Style:
    """Return how the log lines of this process are written."""
    found = [each.style for each in logging.getLogger("bsm").handlers if isinstance(each, _Handler)]
    return found[0] if found else Style(quiet=not logging.getLogger("bsm").isEnabledFor(logging.INFO))


_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Handler(logging.StreamHandler[TextIO]):
    """Handler that writes to standard error as it is now, or through a function."""

    def __init__(self) -> None:
        super().__init__()
        self.style = Style()
        self.show: Callable[[logging.LogRecord, str], None] | None = None
        self.setFormatter(_Formatter(_FORMAT, "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self.format(record)
            if self.show is not None:
                self.show(record, line)
                return
            self.stream.write(f"{_ERASE if self.style.beside_bar else ''}{line}\n")
            self.flush()
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Formatter whose lines hold no control characters: names and values in a message may come from anyone.

    The second and further lines of a message are indented, so that none of them looks like a message.
    """

    def format(self, record: logging.LogRecord) -> str:
        record = _without_controls(record)
        first, *others = super().format(record).split("\n")
        return "\n".join([printable(first), *(f"  {printable(line)}" for line in others)])


class _JSONFormatter(logging.Formatter):
    """Formatter of lines that are JSON objects: ``time``, ``level``, ``message``, and what the record has as data."""

    def format(self, record: logging.LogRecord) -> str:
        data = dict(getattr(record, "data", {}))
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return json_line(record.levelname, _without_controls(record).getMessage(), record.created, data)


def json_line(level: str, message: str, created: float, data: Mapping[str, Any]) -> str:
    """Return a line of ``--log-format json``: a JSON object.

    Args:
        level: Level, such as ``ERROR``.
        message: Message.
        created: Time, in seconds since 1970.
        data: Further keys and values. What JSON has no type for becomes its text.
    """
    time = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "level": level, "message": message, **data}, default=str)


def _without_controls(record: logging.LogRecord) -> logging.LogRecord:
    record = copy.copy(record)  # other handlers get the record as it is
    if isinstance(record.args, tuple):
        record.args = tuple(map(_shown, record.args))
    return record


class _OneLine(str):
    __slots__ = ()

    def __str__(self) -> str:
        return printable(super().__str__())


def _shown(value: object) -> object:
    """Return an argument of a message as it is shown: a text in one line, unless its lines are our own."""
    if isinstance(value, Lines | BSMError) or not isinstance(value, str | Path | BaseException):
        return value
    return _OneLine(value)
