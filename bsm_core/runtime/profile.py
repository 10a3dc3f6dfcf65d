"""Times of the activities of a run, and its progress: events for a terminal, for a caller in Python, or for the log.

Code that works calls :func:`notify`. Without a listener, an event becomes log lines. A listener that shows events
takes their place: :func:`listening`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from bsm_core.runtime.log import Lines

log = logging.getLogger("bsm")

READING, FEATURES = "reading", "features"
SELF_CHECK, WAITING, MOVING, MODEL = "self-check", "waiting for the loader", "moving", "model"
WRITING, COMMIT, TOTAL = "writing parts", "commit", "total"
_MODEL_PROCESS = (SELF_CHECK, WAITING, MOVING, MODEL, WRITING, COMMIT)
"""Activities of the process that runs the model. All others prepare windows, which loader workers may do."""


class Times(dict[str, float]):
    """Seconds of wall time by activity."""

    @contextmanager
    def of(self, activity: str) -> Iterator[None]:
        """Add the time of the block to an activity."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({activity: time.perf_counter() - began})

    def add(self, others: Mapping[str, float]) -> None:
        """Add other times, activity by activity."""
        for activity, seconds in others.items():
            self[activity] = self.get(activity, 0.0) + seconds


def stages_of(times: Mapping[str, float]) -> dict[str, float]:
    """Return the times of three stages: reading, text steps and features, and the model.

    Args:
        times: Seconds by activity. The activities of a text column are named ``column: step``.
    """
    stages = {"read": 0.0, "text": 0.0, "model": 0.0}
    for activity, seconds in times.items():
        if activity in (READING, WAITING):
            stages["read"] += seconds
        elif activity in (MODEL, MOVING):
            stages["model"] += seconds
        elif activity not in (TOTAL, *_MODEL_PROCESS):
            stages["text"] += seconds
    return stages


def table(times: Times, rows: int, *, helped: bool) -> str:
    """Return a text table with a line for each activity: microseconds per row and share of the total.

    The line ``the rest`` has the time that no activity accounts for.

    Args:
        times: Sums over all processes; :data:`TOTAL` is one of them.
        rows: Number of rows.
        helped: Whether loader workers prepared the windows. Their time runs in parallel, so it is listed separately
            and is no share of the total.
    """
    preparing = {name: seconds for name, seconds in times.items() if name not in (TOTAL, *_MODEL_PROCESS)}
    shares = {name: times[name] for name in _MODEL_PROCESS if name in times}
    shares = shares if helped else {**preparing, **shares}
    shares |= {"the rest": times[TOTAL] - sum(shares.values()), TOTAL: times[TOTAL]}
    width = max(map(len, times | shares))
    lines = [f"  {'':{width}} {'µs/row':>10} {'share':>7}"]
    lines += [f"  {name:{width}} {s / max(rows, 1) * 1e6:10.2f} {s / times[TOTAL]:7.1%}" for name, s in shares.items()]
    if helped:
        lines.append("  in loader workers, meanwhile:")
        lines += [f"  {name:{width}} {s / max(rows, 1) * 1e6:10.2f}" for name, s in preparing.items()]
    return "\n".join(lines)


@dataclass(frozen=True)
class Event:
    """Base class of events; a picklable dataclass, whose fields are JSON values but for paths."""

    def lines(self) -> Sequence[str]:
        """Return the log messages of the event, each of one or more lines."""
        return ()

    def data(self) -> dict[str, Any]:
        """Return the fields, and the name of the event, for ``--log-format json``."""
        return {"event": type(self).__name__.lower(), **asdict(self)}


@dataclass(frozen=True)
class Advance(Event):
    """Progress of a run, or of an epoch of training.

    Attributes:
        what: ``"scoring"``, or the epoch.
        rows: Number of rows that are done, those of earlier attempts included.
        share: Share of all rows that they are, 0 to 1; 0 if unknown.
        total: Number of all rows; None if it is unknown and cannot be estimated.
        is_exact: Whether ``total`` is known. Otherwise it is an estimate.
        seconds: Seconds since the first row.
        before: Number of rows that were done when these seconds began.
        times: Seconds by stage so far: reading, text steps, model and others.
        is_due: Whether it is time for a log line.
    """

    what: str
    rows: int
    share: float = 0.0
    total: int | None = None
    is_exact: bool = False
    seconds: float = 0.0
    before: int = 0
    times: Mapping[str, float] = field(default_factory=dict)
    is_due: bool = False

    @property
    def rate(self) -> float:
        """Rows per second."""
        return (self.rows - self.before) / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds to the last row; None if it is unknown."""
        if not self.share:
            return None
        return self.seconds / max(self.rows - self.before, 1) * self.rows * (1 - self.share) / self.share

    def lines(self) -> Sequence[str]:
        """Return a line such as ``12,288 rows, 1,024 rows/s, 00:35 left``, if it is time for one."""
        if not self.is_due:
            return ()
        left = "" if self.seconds_left is None else f", {clock(self.seconds_left)} left"
        what = "" if self.what == SCORING else f"{self.what}: "
        return [f"{what}{self.rows:,} rows, {self.rate:,.0f} rows/s{left}"]


SCORING = "scoring"


@dataclass(frozen=True)
class Ended(Event):
    """End of the progress: no :class:`Advance` follows for now."""


Listener: TypeAlias = Callable[[Event], object]

_listener: ContextVar[tuple[Listener, bool] | None] = ContextVar("bsm_listener", default=None)


def notify(event: Event) -> None:
    """Tell the listener of an event; if nobody shows it, log its lines."""
    pass_on(event)
    if not is_shown():
        for number, line in enumerate(event.lines()):
            log.info("%s", Lines(line), extra={"data": {} if number else event.data()})


def pass_on(event: Event) -> None:
    """Tell the listener of an event of another process, which has logged its lines if nobody shows it."""
    listening_now = _listener.get()
    if listening_now is not None:
        listening_now[0](event)


def is_followed() -> bool:
    """Return whether there is a listener."""
    return _listener.get() is not None


def is_shown() -> bool:
    """Return whether a listener shows the events, so that log lines of the same content are not wanted."""
    listening_now = _listener.get()
    return listening_now is not None and listening_now[1]


@contextmanager
def listening(listener: Listener, *, shows: bool) -> Iterator[None]:
    """Tell a listener of the events inside the block.

    Args:
        listener: Function of an event. It is called in the thread that works, so it should be quick.
        shows: Whether it shows the events, so that they need no log lines.
    """
    token = _listener.set((listener, shows))
    try:
        yield
    finally:
        _listener.reset(token)


def clock(seconds: float) -> str:
    """Return a time such as ``00:35`` or ``2:00:35``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
