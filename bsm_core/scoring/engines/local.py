"""Local engine: one process for each device, each running Lightning's Trainer.

A process scores its windows in three phases: prepare, predict, finish. A process alone reads the whole table. Of
several processes, each asks for work when it has none, scores the windows that it is given and writes their parts. When
all parts are written, rank 0 (the first process; a rank is Lightning's number of one) combines them into the prediction
file and writes the markers.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from bsm_core.backends.choose import ChosenBackends
from bsm_core.errors import ArtifactError, DataError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.predictor import Predictor
from bsm_core.preprocess.findings import ALTERED_PARTS, note_counts, warn_of_counts
from bsm_core.preprocess.loader import WindowLoader
from bsm_core.runtime import signals
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.durable import writing
from bsm_core.runtime.handout import Address
from bsm_core.runtime.log import Lines
from bsm_core.runtime.profile import COMMIT, TOTAL, Times, table
from bsm_core.runtime.versions import installed
from bsm_core.scoring.engines.callbacks import BeforeFirstWindow, PartWriter, Progress
from bsm_core.scoring.engines.devices import DevicePlan, loader_workers
from bsm_core.scoring.engines.trainer import Clock, of_all_ranks, quiet, threads_for, trainer
from bsm_core.scoring.engines.work import Job
from bsm_core.scoring.manifest import Attempt, WorkFolder
from bsm_core.scoring.markers import Markers
from bsm_core.scoring.plan import require_unchanged
from bsm_core.scoring.provenance import components_of, record_of, require_same
from bsm_core.scoring.row_issues import BadRowLimit, CommitReview, RowIssuesFile
from bsm_core.scoring.settings import Settings
from bsm_core.tables.data_files import warn_of_passed_over
from bsm_core.tables.formats.folders import warn_of_no_marker
from bsm_core.tables.id_counts import IdCounts
from bsm_core.tables.read import TableSource

log = logging.getLogger("bsm")


def score(job: Job, plan: DevicePlan, rank: int = 0, address: Address | None = None) -> Committed | None:
    """Score the windows of one process; on rank 0, also write the prediction file and the markers.

    Args:
        job: The job.
        plan: Devices of the job.
        rank: Number of this process, which uses the plan's device of that number.
        address: Where this process asks for work. None: it has no other process to share the work with.

    Returns:
        The prediction file and counts, on rank 0; None on the others.

    Raises:
        BSMError: The data, the artifact, a plugin or a device is at fault.
    """
    run = _RankRun(job, plan, rank, address)
    run.predict()
    return None if rank else run.finish()


class _RankRun:
    """Run of one process: prepared when it is made, then :meth:`predict` and, on rank 0, :meth:`finish`.

    Attributes:
        job, plan, rank, address: See :func:`score`.
        predictor: The artifact's model and preprocessing, checked.
        source: The input table.
        schema: Columns and types of the predictions.
        num_workers: Number of loader workers.
        before: The callback that knows the backends in use and the result of the self-check.
        times: Times of this process; with ``--profile``, of all processes after :meth:`predict`.
    """

    def __init__(self, job: Job, plan: DevicePlan, rank: int, address: Address | None) -> None:
        """Build the predictor, and check that the data fits it."""
        self.job, self.plan, self.rank, self.address = job, plan, rank, address
        settings, source, keep = job.settings, job.source, job.keep
        if rank == 0:
            warn_of_passed_over(settings.data_dir, source.files)
            warn_of_no_marker(settings.data_dir)
        # In a lower precision, or on a GPU, check rows show how far the probabilities move.
        lower_precision = plan.accelerator == "gpu" or settings.precision not in ("auto", "fp32")
        check_rows = job.artifact.check_rows if settings.self_check or lower_precision else None
        self.predictor = Predictor.load(
            job.artifact,
            batch_size=settings.batch_size,
            on_bad_row=settings.on_bad_row,
            keep=list(keep),
            max_cell_mb=settings.max_cell_mb,
            source=source,
        )
        if rank:
            self.predictor.hooks.take_failures()  # they fail in every process alike: rank 0 alone counts them
        elif settings.strict:
            require_same(job.artifact, self.predictor)
        _check_columns(self.predictor, source, keep)
        self.source = job.table
        kept = self.source.schema(list(keep))
        self.schema = pa.schema([*kept, *((name, pa.float64()) for name in self.predictor.probability_names)])
        if rank == 0 and settings.row_issues is not None:
            RowIssuesFile.check(settings.row_issues, kept.field(0), source.format, settings.output_dir)
        self.num_workers = _loader_workers(settings, plan, self.predictor, self.source)
        backends = self._earlier_backends()
        self.before = BeforeFirstWindow(self.predictor, settings, check_rows, self._begin_attempt, backends)
        self.times = Times()

    def predict(self) -> None:
        """Write the parts of this process's windows, and wait until all processes have written theirs."""
        predictor, plan, settings = self.predictor, self.plan, self.job.settings
        loader = WindowLoader(
            self.source,
            predictor.preprocessor,
            rows=settings.window_rows,
            done=self.job.positions,
            address=self.address,
            num_workers=self.num_workers,
            pin_memory=plan.accelerator == "gpu",
        )
        limit = BadRowLimit(settings.max_bad_rows, self.source.format)
        for record in self.job.done.values():
            limit.add(record.counts, record.rows)
        writer = PartWriter(self.job.sink, predictor, self.times, limit)
        rank_0 = [Progress(sum(record.rows for record in self.job.done.values()))]
        callbacks = [self.before, writer, *([] if self.rank else rank_0)]
        try:
            with quiet(), threads_for(predictor), self.times.of(TOTAL):
                runner = trainer(plan, callbacks, Clock(self.times) if settings.profile else None)
                runner.predict(predictor.model, loader, return_predictions=False)
        except DataError:
            self._require_unchanged()  # explains what is odd in a file that was changed while it was read
            raise
        runner.strategy.barrier("parts")
        if settings.profile:
            self.times = of_all_ranks(self.times, plan.count)

    def finish(self) -> Committed:
        """Combine the parts into the prediction file, call the hooks, and write the run record and the markers."""
        settings, hooks, sink = self.job.settings, self.predictor.hooks, self.job.sink
        self._require_unchanged()
        sink.require_lock()  # before the row-issues file is opened
        with self.times.of(TOTAL), self.times.of(COMMIT), self._review() as review:
            committed = sink.commit(self.schema, self.job.format, review)
        if self.job.altered:
            committed.counts[ALTERED_PARTS] = self.job.altered
        warn_of_counts(committed.counts, committed.rows, self.source.format)
        note_counts(committed.counts)
        if settings.profile:
            figures = table(self.times, committed.rows, helped=self.num_workers > 0)
            log.info("where the time went, start-up left out:\n%s", Lines(figures))
        record = run_record(self, committed)
        hooks.committed(committed, record)
        for key, count in hooks.take_failures().items():
            record["counts"][key] = committed.counts[key] = committed.counts.get(key, 0) + count
        signals.check()
        sink.require_lock()
        with writing(settings.output_dir):
            Markers(settings.output_dir).succeed(record if settings.run_record else None)
        return committed

    def _review(self) -> CommitReview:
        settings, file = self.job.settings, None
        if settings.row_issues is not None:
            id_column = self.schema.field(0)
            file = RowIssuesFile(settings.row_issues, id_column, self.source.format, settings.output_dir)
        limit = BadRowLimit(settings.max_bad_rows, self.source.format)
        return CommitReview(file, limit, IdCounts(self.job.sink.work.path))

    def _require_unchanged(self) -> None:
        require_unchanged(self.job.plan, self.job.source, self.job.settings.data_dir)
        if changed := self.job.artifact.hashes.changed():
            raise ArtifactError(
                f"{', '.join(changed)} was changed during the run",
                where=str(self.job.settings.model_dir),
                fix="run again when nothing writes to the artifact any more; the run begins anew then",
            )

    def _earlier_backends(self) -> Mapping[str, str]:
        """Return the backend of each encoder in the last attempt on this host and these devices.

        Another trial may find another backend, and each rounds in its own way.
        """
        here = socket.gethostname(), str(self.plan)
        used = [attempt.encoders for attempt in self.job.earlier if (attempt.host, attempt.device) == here]
        return used[-1]["backends"] if used and used[-1] else {}

    def _begin_attempt(self, chosen: ChosenBackends | None) -> None:
        """Prepare the work folder and record the attempt; no part has been written, and nothing else can be wrong."""
        attempt = Attempt(
            attempt=self.job.attempt,
            host=socket.gethostname(),
            process=os.getpid(),
            began=datetime.fromtimestamp(self.job.began, UTC).isoformat(timespec="seconds"),
            device=str(self.plan),
            encoders=None if chosen is None else asdict(chosen),
        )
        self.job.sink.begin(self.job.plan, self.job.done)
        with writing(self.job.settings.output_dir):
            self.job.sink.work.add(attempt)


def run_record(run: _RankRun, committed: Committed) -> dict[str, Any]:
    """Return the run record, which is the content of ``run.json``, as a dict of JSON values."""
    settings = run.job.settings.model_dump(mode="json")
    components = [*components_of(run.predictor), *(record_of(c, c.name) for c in run.predictor.hooks.components)]
    largest, chosen = run.before.difference, run.before.chosen
    return {
        "settings": settings,
        "device": {"asked": settings["device"], "used": str(run.plan)},
        "components": [component.model_dump() for component in components],
        "artifact": dict(run.job.plan["artifact"]),
        "self_check": None if largest is None else {"largest_difference": largest},
        "encoders": None if chosen is None else asdict(chosen),
        "versions": installed(),
        "attempts": _attempts(run.job.sink.work),
        "rows": committed.rows,
        "windows": committed.windows,
        "counts": dict(committed.counts),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - run.job.began, 3),
        "output": committed.path.name,
        "profile": {what: round(value, 6) for what, value in run.times.items()} if settings["profile"] else None,
    }


def _attempts(work: WorkFolder) -> list[dict[str, Any]]:
    """Return what is known of each attempt, with the number of rows whose parts it computed."""
    rows: Counter[int] = Counter()
    for record in work.records().values():
        rows[record.attempt] += record.rows
    return [{**asdict(attempt), "rows": rows[attempt.attempt]} for attempt in work.attempts()]


def _loader_workers(settings: Settings, plan: DevicePlan, predictor: Predictor, source: TableSource) -> int:
    """Return ``--num-workers`` if set; else a number for the devices, 0 without text fields or for a single window."""
    if settings.num_workers is not None:
        return settings.num_workers
    workers = loader_workers(plan, cores())
    if not workers or not predictor.preprocessor.pipelines:
        return 0
    with closing(source.windows(predictor.preprocessor.keep[:1], rows=settings.window_rows)) as windows:
        return 0 if next(windows).last else workers  # a process takes seconds to start


def _check_columns(predictor: Predictor, source: TableSource, keep: Mapping[str, str]) -> None:
    """Check that the data has the columns that are needed, and that none is named like a prediction column."""
    needed = dict(keep)
    for name, key in predictor.preprocessor.wanted.items():
        needed[name] = f"{needed[name]} and {key}" if name in needed else key
    source.require(needed)
    taken = set(keep) & set(predictor.probability_names)
    if taken:
        raise DataError(
            f"the data has a column with the name of a prediction column: {', '.join(sorted(taken))}",
            fix="rename it, or leave it out of --keep-columns",
        )
