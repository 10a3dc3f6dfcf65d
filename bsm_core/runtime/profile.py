"""Times of the activities of a run, for ``--profile``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
