"""The end of a run: the parts become the prediction file, the hooks are called, and the markers are written."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bsm_core.artifact.config import ClassLabels
from bsm_core.errors import DataError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.preprocess.findings import ALTERED_PARTS, note_counts, warn_of_advice, warn_of_counts
from bsm_core.report.binning import Binning
from bsm_core.report.run_statistics import as_record
from bsm_core.runtime import signals
from bsm_core.runtime.durable import writing
from bsm_core.runtime.log import Lines
from bsm_core.runtime.profile import COMMIT, TOTAL, is_shown, table
from bsm_core.runtime.versions import installed
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.engines.work import Job
from bsm_core.scoring.output.done_shard import DoneShard, FileState
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import Markers
from bsm_core.scoring.output.merge import mark_job
from bsm_core.scoring.output.row_issues import BadRowLimit, CommitReview, RowIssuesFile
from bsm_core.scoring.output.run_report import drawn, page_of_run, urgent, write_report
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.provenance import components_of, record_of
from bsm_core.storage.objects import ObjectPath
from bsm_core.tables.id_counts import IdCounts

log = logging.getLogger("bsm")


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        path: The prediction file; the marker ``_SUCCESS-...`` of a shard to which the platform has given no files.
        rows: Number of rows in the file.
        windows: Number of windows that were scored.
        seconds: Duration of this attempt.
        classes: Number of rows of which each class is the most probable one; of more than 1,000 classes, the last
            number is that of all others.
        counts: Numbers of row issues and other counts, such as ``{"bad_rows": 2, "number:Age": 2}``; those that are
            zero are left out.
        record: Content of ``run.json``, which is written with ``run_record=True``; empty for a shard without files. Its
            ``statistics`` are None if neither ``run_record`` nor ``report`` nor an observer asked for them.
        embeddings: The file of the embeddings; None without ``emit="embeddings"``.

    Example:
        Print the counts of a run, and how long it took::

            places = {"model_dir": "model.tar.gz", "data_dir": "rows.csv", "output_dir": "predictions"}
            result = bsm_core.run(**places, id_field="id")
            print(result.counts, f"{result.seconds:.0f} s")
    """

    path: Path
    rows: int
    windows: int
    seconds: float = field(compare=False)
    classes: Sequence[int]
    counts: Mapping[str, float]
    record: Mapping[str, Any] = field(compare=False, repr=False)
    embeddings: Path | None = None


def finish(scorer: Scorer) -> RunResult:
    """Combine the parts into the prediction file, call the hooks, and write the run record and the markers.

    Args:
        scorer: The first process, when all parts are written.

    Raises:
        BSMError: A part is missing, a file was changed during the run, there are too many bad rows, a guard refuses
            the predictions, or the output folder cannot be written.
    """
    job, hooks = scorer.job, scorer.predictor.hooks
    settings, sink = job.settings, job.sink
    scorer.require_unchanged()
    sink.require_lock()  # before the row-issues file is opened
    states: list[FileState] = []  # of the files of a shard, the predictions first, before they are sent to a store
    seal = (lambda file: states.append(FileState.of(file))) if settings.shard else None
    with scorer.times.of(TOTAL), scorer.times.of(COMMIT), _review(scorer) as review:
        vectors = scorer.embeddings and scorer.embeddings.schema
        committed = sink.commit(scorer.schema, job.format, review, seal, vectors)
    if job.altered:
        committed.counts[ALTERED_PARTS] = job.altered
    if is_shown():  # with the counts
        warn_of_advice(committed.counts, committed.rows, scorer.source.format)
    else:
        warn_of_counts(committed.counts, committed.rows, scorer.source.format)
        note_counts(committed.counts)
    if settings.profile:
        figures = table(scorer.times, committed.rows, helped=scorer.num_workers > 0)
        log.info("where the time went, start-up left out:\n%s", Lines(figures))
    record = run_record(scorer, committed, review)
    hooks.committed(committed, record)
    for key, count in hooks.take_failures().items():
        record["counts"][key] = committed.counts[key] = committed.counts.get(key, 0) + count
    signals.check()
    sink.require_lock()
    if settings.report is not None and (page := drawn(partial(page_of_run, record), "the predictions are")):
        write_report(settings.report, page)
        for text in urgent(record):
            log.warning("report: %s", text)
        log.info("report: %s", settings.report)
    kept = record if settings.run_record else None
    values = committed.path, committed.rows, committed.windows, record["seconds"], committed.classes, committed.counts
    result = RunResult(*values, record, sink.embeddings if scorer.embeddings else None)
    if settings.shard:
        records, files = list(sink.work.records().values()), len(scorer.source.files)
        done = DoneShard.of(settings.shard, job.digest, committed.path.name, states, records, files)
        mark_shard(settings.output_dir, done, kept)
        return result
    with writing(settings.output_dir):
        markers = Markers(settings.output_dir)
        markers.remove_leftovers()
        markers.succeed(kept)
    return result


def mark_shard(output: Path, done: DoneShard, record: Mapping[str, Any] | None = None) -> None:
    """Write the markers of a shard that is done and, if it is the last one and all fit, ``_SUCCESS`` of its job.

    Args:
        output: The output folder.
        done: The shard.
        record: The run record, if it is to be written.

    Raises:
        SinkError: The markers of the shard cannot be written.
    """
    with writing(output):
        Markers(output, done.shard).succeed(record, done.text())
    try:
        if mark_job(output, done):
            log.info("all %d shards are done: bsm merge %s", done.shard.hosts, output)
    except DataError as error:  # this shard is done all the same
        log.warning("all shards are done, but they cannot be merged: %s", error.one_line())
    except OSError as error:
        log.warning("_SUCCESS of all shards could not be written: %s", error)


def _review(scorer: Scorer) -> CommitReview:
    job, file = scorer.job, None
    if job.settings.row_issues is not None:
        id_column = scorer.schema.field(0)
        file = RowIssuesFile(job.settings.row_issues, id_column, scorer.source.format, job.settings.output_dir)
    limit = BadRowLimit(job.settings.max_bad_rows, scorer.source.format, job.settings.row_issues)
    work = job.sink.work.path
    return CommitReview(file, limit, IdCounts(None if isinstance(work, ObjectPath) else work))


def run_record(scorer: Scorer, committed: Committed, review: CommitReview) -> dict[str, Any]:
    """Return the run record, which is the content of ``run.json``, as a dict of JSON values."""
    job: Job = scorer.job
    settings = job.settings.model_dump(mode="json")
    config, hooks = scorer.predictor.preprocessor.config, scorer.predictor.hooks
    components = [*components_of(scorer.predictor), *(record_of(c, c.name) for c in hooks.components)]
    largest, chosen = scorer.difference, scorer.chosen
    return {
        "settings": settings,
        "device": {"asked": settings["device"], "used": str(scorer.plan)},
        "components": [component.model_dump() for component in components],
        "artifact": dict(job.plan["artifact"]),
        "labels": asdict(ClassLabels.of_config(config)),
        "self_check": None if largest is None else {"largest_difference": largest},
        "encoders": None if chosen is None else asdict(chosen),
        "versions": installed(),
        "attempts": _attempts(job.sink.work),
        "rows": committed.rows,
        "windows": committed.windows,
        "counts": dict(committed.counts),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - job.began, 3),
        "output": committed.path.name,
        "embeddings": job.sink.embeddings.name if scorer.embeddings else None,
        "profile": {what: round(value, 6) for what, value in scorer.times.items()},
        "statistics": scorer.binning and _statistics(scorer.binning, review, config.classes, job.settings.shard),
    }


def _statistics(
    binning: Binning, review: CommitReview, classes: Sequence[str] | Sequence[int], shard: Shard | None
) -> dict[str, Any]:
    return as_record(review.statistics, binning, classes, review.counts, all_categories=shard is not None)


def _attempts(work: WorkFolder) -> list[dict[str, Any]]:
    """Return what is known of each attempt, with the number of rows whose parts it computed."""
    rows: Counter[int] = Counter()
    for record in work.records().values():
        rows[record.attempt] += record.rows
    return [{**asdict(attempt), "rows": rows[attempt.attempt]} for attempt in work.attempts()]
