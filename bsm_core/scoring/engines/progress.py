"""How far a run is: a bar on a terminal, a log line now and then elsewhere."""

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
    """Reports rows, rows a second and the time left after each window.

    The number of rows is not known before a CSV file is read, so the total is estimated from the share of the input
    that has been read; once all of it is, and windows are still to come, there is nothing to estimate from, so a small
    file has a mere counter. With several processes the first reports for all, as the windows are dealt out in turn.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._began = self._reported = time.monotonic()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count."""
        self._began = self._reported = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(unit=" rows", unit_scale=True, desc="scoring", **_size_of_bar())

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Report a window."""
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
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the bar, so that the error stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _size_of_bar() -> dict[str, Any]:
    """For a terminal that does not know its size, as those of containers, the usual one."""
    try:
        unknown = 0 in os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        unknown = False
    return {"ncols": 80, "nrows": 24} if unknown else {"dynamic_ncols": True}


def progress_line(rows: int, fraction: float, seconds: float) -> str:
    """``12,288 rows, 1,024 rows/s, 00:35 left``."""
    left = f", {tqdm.format_interval(seconds * (1 - fraction) / fraction)} left" if fraction else ""
    return f"{rows:,} rows, {rows / max(seconds, 1e-9):,.0f} rows/s{left}"
