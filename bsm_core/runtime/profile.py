"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

READING, FEATURES = "reading", "features"
SELF_CHECK, WAITING, MOVING, MODEL = "self-check", "waiting for the loader", "moving", "model"
WRITING, COMMIT, TOTAL = "writing parts", "commit", "total"
_OF_THE_RUN = (SELF_CHECK, WAITING, MOVING, MODEL, WRITING, COMMIT)
"""What the process that runs the model does by itself; all else prepares windows, which loader workers may do."""


class Times(dict[str, float]):
    """Seconds of wall time, by what took them."""

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Add the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({what: time.perf_counter() - began})

    def add(self, others: Mapping[str, float]) -> None:
        """Add the times of others to ours."""
        for what, seconds in others.items():
            self[what] = self.get(what, 0.0) + seconds


def table(times: Times, rows: int, *, helped: bool) -> str:
    """Microseconds a row and share of the whole, a line each; ``the rest`` is what nobody measured.

    Args:
        times: Of all processes together, :data:`TOTAL` among them.
        rows: Number of rows.
        helped: Whether loader workers prepared the windows: their time is beside the whole, and no share of it.
    """
    prepared = {what: seconds for what, seconds in times.items() if what not in (TOTAL, *_OF_THE_RUN)}
    own = {what: times[what] for what in _OF_THE_RUN if what in times}
    own = own if helped else {**prepared, **own}
    own |= {"the rest": times[TOTAL] - sum(own.values()), TOTAL: times[TOTAL]}
    beside = prepared if helped else {}
    width = max(map(len, [*own, *beside]))
    lines = [f"  {'':{width}} {'µs/row':>10} {'share':>7}"]
    lines += [f"  {what:{width}} {s / max(rows, 1) * 1e6:10.2f} {s / times[TOTAL]:7.1%}" for what, s in own.items()]
    if beside:
        lines.append("  in loader workers, meanwhile:")
        lines += [f"  {what:{width}} {s / max(rows, 1) * 1e6:10.2f}" for what, s in beside.items()]
    return "\n".join(lines)
