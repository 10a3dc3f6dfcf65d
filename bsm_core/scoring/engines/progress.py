"""Progress of a run: a bar on a terminal, elsewhere a log line every few seconds."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from bsm_core.models.batch import Batch
from bsm_core.preprocess.dataset import WindowInfo

log = logging.getLogger("bsm")

SECONDS_BETWEEN_LINES = 10.0


class Progress(Callback):
    """Callback that reports rows, rows per second and the remaining time after each window.

    The number of rows of a CSV file is unknown until all of it is read. So the total is estimated from the share of the
    input that has been read. When all of a small file is read before its first windows are scored, there is no such
    estimate, and only the rows are counted. With several processes, rank 0 reports for all: each takes every n-th
    window, so all are about equally far.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._began = self._reported = time.monotonic()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock, and the bar if there is a terminal."""
        self._began = self._reported = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(unit=" rows", unit_scale=True, desc="scoring", **_size_of_bar())

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Report the rows up to the end of this window."""
        info: WindowInfo = batch.window
        rows = info.start + batch.rows
        share = info.fraction if info.fraction < 1 or info.last else 0.0
        if self._bar is not None:
            if share:
                self._bar.total = round(rows / share)
            self._bar.update(rows - self._bar.n)
        elif time.monotonic() - self._reported >= SECONDS_BETWEEN_LINES:
            self._reported = time.monotonic()
            log.info("%s", progress_line(rows, share, self._reported - self._began))

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the bar, so that the error message begins on a new line."""
        self.on_predict_end(trainer, pl_module)


def _size_of_bar() -> dict[str, Any]:
    """Return options for tqdm: a fixed size for a terminal that reports none, as in containers."""
    try:
        unknown = 0 in os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        unknown = False
    return {"ncols": 80, "nrows": 24} if unknown else {"dynamic_ncols": True}


def progress_line(rows: int, fraction: float, seconds: float) -> str:
    """Return a log line such as ``12,288 rows, 1,024 rows/s, 00:35 left``.

    Args:
        rows: Number of rows so far.
        fraction: Share of the input, 0 to 1; 0 if unknown.
        seconds: Time since the start.
    """
    left = f", {tqdm.format_interval(seconds * (1 - fraction) / fraction)} left" if fraction else ""
    return f"{rows:,} rows, {rows / max(seconds, 1e-9):,.0f} rows/s{left}"
