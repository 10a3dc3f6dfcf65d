"""Callbacks of Lightning's Trainer: before the first window, after each window, and the progress of the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

import pyarrow as pa
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from bsm_core.artifact.check_rows import CheckRows
from bsm_core.backends.choose import ChosenBackends
from bsm_core.models.batch import Batch
from bsm_core.predictor import Predictor
from bsm_core.predictor.embedding_columns import EmbeddingColumns
from bsm_core.predictor.probability_columns import Classes, with_probabilities
from bsm_core.preprocess.dataset import WindowInfo
from bsm_core.preprocess.findings import IssueWarnings
from bsm_core.report.binning import Binning, classes_alone
from bsm_core.runtime.memory import FreeMemory
from bsm_core.runtime.profile import SCORING, Advance, Ended, Times, is_followed, is_shown, notify, stages_of
from bsm_core.scoring.counting import probabilities_of, scored
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.part import Part
from bsm_core.scoring.output.row_issues import BadRowLimit, issues_table
from bsm_core.scoring.output.sink import Sink
from bsm_core.scoring.self_check import check, require_fit
from bsm_core.scoring.settings import Settings

log = logging.getLogger("bsm")

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_COUNTS = 1.0
"""Seconds between two counts of what several processes have scored, for the bar."""
_WRONG = 0.05
"""Share by which an estimate of the number of rows may be wrong before it is made again."""
ISSUES_NAMED = 20
"""Number of issues that a process names in its log; others are only counted."""


Begin: TypeAlias = Callable[[ChosenBackends | None, float | None], None]


class BeforeFirstWindow(Callback):
    """Chooses the backends of the text encoders, scores the artifact's check rows with them, and begins the attempt.

    Args:
        predictor: The model and preprocessing.
        settings: Settings of the run.
        rows: Check rows of the artifact to score.
        begin: Function of the chosen backends, and of the largest difference of a check row's probability from the
            stored one, which is None if none was scored. Rank 0 calls it, before any rank scores a window.
        earlier: Backends of an earlier attempt, see :func:`bsm_core.backends.choose.choose_backends`.

    Attributes:
        chosen: Chosen backends and precision; None before :meth:`on_predict_start`.
        difference: Largest difference of a check row's probability from the stored one; None if none was scored.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: Settings,
        rows: CheckRows | None,
        begin: Begin,
        earlier: Mapping[str, str],
    ) -> None:
        self.chosen: ChosenBackends | None = None
        self.difference: float | None = None
        self._predictor, self._settings, self._rows, self._begin = predictor, settings, rows, begin
        self._earlier = earlier

    def on_predict_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Set up the model, which is on its device now; no window has been scored."""
        if self._rows is not None:
            require_fit(self._predictor, self._rows)
        # Rank 0 chooses first and stores the outcome of its trial, which the other ranks then read. If each rank held a
        # trial of its own, the ranks could choose different backends and round differently.
        if not trainer.is_global_zero:
            trainer.strategy.barrier("backends")
        asked = self._settings.precision, self._settings.backend
        self.chosen = self._predictor.choose_backends(*asked, self._rows, self._earlier)
        if self._rows is not None and self._settings.self_check:
            self.difference = check(self._predictor, self._rows)
        if trainer.is_global_zero:
            self._begin(self.chosen, self.difference)
            trainer.strategy.barrier("backends")


class PartMaker(Callback):
    """Makes a part of the kept columns and probabilities of each window, and calls the plugins' window hooks.

    Args:
        predictor: The model and preprocessing.
        binning: What is counted of each window. None: the predicted classes alone.
        times: Where the times of each window are added.
        deliver: Function that takes each part.
        classes: Name of each class, for the column ``predicted_class``. None: there is none.
        embeddings: Columns of the embeddings. None: they are not asked for.
    """

    def __init__(
        self,
        predictor: Predictor,
        binning: Binning | None,
        times: Times,
        deliver: Callable[[Part], None],
        classes: Classes | None = None,
        embeddings: EmbeddingColumns | None = None,
    ) -> None:
        self.predictor = predictor
        self.embeddings = embeddings
        self.binning = binning
        self.classes = classes
        self.times = times
        self.deliver = deliver
        self._warnings = IssueWarnings(ISSUES_NAMED)
        self._memory = FreeMemory()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Call the hooks before the window is scored."""
        self.predictor.hooks.window_start(batch)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Make a part. The index of its window comes with the batch: ``batch_idx`` counts the windows of a process."""
        info: WindowInfo = batch.window
        findings = info.findings.with_failed_rows(batch.failed)
        self._warnings.add(findings, info.names)
        table = with_probabilities(info.kept, outputs.cpu().numpy(), [*batch.failed], self.classes)
        embedded = self.embeddings and self._embedded(self.embeddings, batch)
        issues = issues_table(info.kept, info.start, findings)
        found = findings.counts()
        counts = {**found, **self.predictor.hooks.window_end(batch, outputs)}
        self.times.add(info.times)
        if self.binning:
            statistics = partial(self.binning.statistics, scored(batch, outputs, found))
        else:
            statistics = partial(classes_alone, probabilities_of(batch, outputs))
        places = info.index, info.last, info.end
        self.deliver(Part(*places, table, counts, issues, info.fraction, info.files, statistics, embedded))
        self._memory.give_back()

    def _embedded(self, columns: EmbeddingColumns, batch: Batch) -> pa.Table:
        """Return the embeddings of a window, and forget its vectors, which the hooks of plugins need not copy."""
        table = columns.table(batch.window.kept.column(0), batch.vectors or {}, [*batch.failed])
        if batch.vectors:
            batch.vectors.clear()
        return table


class PartWriter:
    """Context manager that writes parts in a thread, each while the next window is scored, and counts their bad rows.

    At the end of the block, all parts are on the disk. An error that ends the block is reported, whatever comes of the
    part that the thread then writes.

    Args:
        sink: Where the parts are written.
        limit: Limit of bad rows.
    """

    def __init__(self, sink: Sink, limit: BadRowLimit) -> None:
        self._sink, self._limit = sink, limit
        self._thread = ThreadPoolExecutor(1, "bsm-part")
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            self._wait()

    def add(self, part: Part) -> None:
        """Begin to write a part, after the one before it is on the disk.

        Raises:
            SinkError: The part before it could not be written.
            TooManyBadRowsError: See :meth:`bsm_core.scoring.output.row_issues.BadRowLimit.add`.
        """
        self._wait()
        self._written = self._thread.submit(self._sink.write_part, part)
        self._limit.add(part.counts, len(part.table), part.issues)

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()


class Progress:
    """Report of the rows that are done: events for whoever shows them, and a log line now and then for nobody.

    The number of rows of a text file is unknown until all of it is read. So the total is estimated from the share of
    the input that the first rows are, and again only if that turns out to be wrong: it does not grow with the rows.

    Args:
        done: Number of rows that earlier attempts have scored.
        total: Number of all rows, if it is known.

    Attributes:
        done: See above.
    """

    def __init__(self, done: int = 0, total: int | None = None) -> None:
        self.done = done
        self._total, self._estimate = total, 0.0
        self._began = self._reported = self._logged = time.monotonic()

    def start(self) -> None:
        """Start the clock."""
        self._began = self._reported = self._logged = time.monotonic()
        if is_shown():
            notify(Advance(SCORING, self.done, total=self._total, is_exact=True, before=self.done))

    @property
    def is_due(self) -> bool:
        """Whether it is time for a report, if the number of rows is not known without effort."""
        pause = SECONDS_BETWEEN_COUNTS if is_followed() else SECONDS_BETWEEN_LINES
        return time.monotonic() - self._reported >= pause

    def report(self, rows: int, share: float, times: Mapping[str, float]) -> None:
        """Report the rows up to a window.

        Args:
            rows: Number of rows so far, those of earlier attempts included.
            share: Share of the input that they are, 0 to 1; 0 if unknown.
            times: Seconds by activity so far, see :mod:`bsm_core.runtime.profile`.
        """
        now = time.monotonic()
        logs = now - self._logged >= SECONDS_BETWEEN_LINES
        self._reported = now if self.is_due else self._reported
        self._logged = now if logs else self._logged
        if self._total is not None:
            share = min(1.0, rows / max(1, self._total))
        total = self._total if self._total is not None else self._estimated(rows, share)
        exact = self._total is not None or share == 1
        stages = stages_of(times)
        notify(Advance(SCORING, rows, share, total, exact, now - self._began, self.done, stages, logs))

    def _estimated(self, rows: int, share: float) -> int | None:
        if share and (share == 1 or abs(rows / share - self._estimate) > _WRONG * self._estimate):
            self._estimate = rows / share
        return max(rows, round(self._estimate)) if self._estimate else None

    def close(self) -> None:
        """End the report."""
        notify(Ended())


class WindowProgress(Callback):
    """Reports the progress after each window of this process.

    Args:
        progress: The report.
        work: Work folder whose manifest says what other processes have scored too. None: there are no others.
        times: Times of this process. Those of preparing the last window are added after it was reported.
    """

    def __init__(self, progress: Progress, work: WorkFolder | None = None, times: Times | None = None) -> None:
        self._progress, self._work, self._times = progress, work, Times() if times is None else times
        self._rows, self._read = progress.done, 0
        self._furthest = (0, 0.0)  # a position in the table, and the share of the input up to it

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the report."""
        self._progress.start()

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Report the rows that are scored, and the share of the input that they seem to be.

        Windows of several processes, or loader workers, come in any order, and parts of earlier attempts lie between
        them. So the share is that of the rows up to the furthest window.
        """
        info: WindowInfo = batch.window
        share = info.fraction if info.fraction < 1 or info.last else 0.0
        self._furthest = max(self._furthest, (info.start + batch.rows, share))
        if self._work is None:
            self._rows += batch.rows
        if self._work is None or self._progress.is_due:  # in an object store, a count can take longer than a window
            self._report(info.times)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the rows of all processes, and close the report."""
        if self._work is not None:
            self._report({})
        self._progress.close()

    def _report(self, more: Mapping[str, float]) -> None:
        if self._work is not None:
            self._rows, self._read = self._work.rows_on(self._rows if self._read else 0, self._read)
        end, share = self._furthest
        times = Times(self._times)
        times.add(more)
        self._progress.report(self._rows, min(1.0, self._rows * share / max(1, end)), times)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the report, so that the error message begins on a new line."""
        self._progress.close()
