"""One attempt of a run: open the artifact and the data, find what is done, and score the rest."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.pretrained_files import downloading
from bsm_core.errors import DataError
from bsm_core.preprocess.findings import MODEL_ROWS
from bsm_core.runtime.durable import writing
from bsm_core.runtime.profile import notify
from bsm_core.runtime.versions import __version__
from bsm_core.scoring.engines import ranks, ray_cluster
from bsm_core.scoring.engines.devices import DevicePlan, plan_devices, plan_world
from bsm_core.scoring.engines.finish import RunResult, mark_shard
from bsm_core.scoring.engines.scorer import trial
from bsm_core.scoring.engines.work import Job, components_of_run, guards_of_run
from bsm_core.scoring.engines.world import Leader
from bsm_core.scoring.output.done_shard import DoneShard, job_of
from bsm_core.scoring.output.lock import Lock
from bsm_core.scoring.output.markers import SUCCESS, Markers, named
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.output.sink import Found, Sink
from bsm_core.scoring.plan import inputs_of
from bsm_core.scoring.run_events import Finished, Outline
from bsm_core.scoring.settings import Settings
from bsm_core.tables.data_files import Format, warn_of_passed_over
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.folders import is_pattern, root_of, visible_files, warn_of_no_marker
from bsm_core.tables.read import TableSource

log = logging.getLogger("bsm")


def run(settings: Settings, lock: Lock, leader: Leader | None = None) -> RunResult:
    """Score the windows that no earlier attempt has finished, and write the predictions of all.

    Args:
        settings: Settings from flags and variables.
        lock: Lock of the output folder.
        leader: This process as the first one of a world; None: it starts its processes itself.

    Raises:
        NothingToResumeError: See :meth:`bsm_core.scoring.output.sink.Sink.find`.
        MissingColumnsError: The id is not set, or columns are missing.
        BSMError: The data, the artifact, a plugin, a device or the output folder is at fault.
    """
    began = time.time()
    if leader:
        leader.connect()
    with downloading(settings.allow_downloads), unpacked(settings.model_dir) as folder:
        artifact = Artifact.load(folder)
        settings = settings.with_artifact(artifact.raw_config)
        shard = settings.shard
        if shard and shard.divided and not _has_files(settings.data_dir):
            return _without_files(settings, shard, artifact, lock, leader, began)
        whole = TableSource.open(settings.data_dir, settings.on_bad_line, settings.dialect)
        with _engine(settings, leader) as (score, devices):
            job = _job(settings, artifact, whole, devices, lock, began)
            committed, used = score(job, devices)
    notify(
        Finished(
            path=committed.path,
            rows=committed.rows,
            earlier=job.rows_done,
            seconds=time.time() - began,
            devices=str(used),
            asked=str(settings.device),
            counts=committed.counts,
            classes=committed.classes,
            row_issues=settings.row_issues,
            embeddings=committed.embeddings,
            limit=settings.limit,
            names=artifact.config.classes,
            report=settings.report,
            recorded=settings.run_record and not settings.shard,
        )
    )
    return committed


def outline(settings: Settings) -> Outline:
    """Open the artifact and the data as :func:`run` does, make the self-check, and return the plan.

    Nothing is written but the result of a speed trial, into the user's cache folder. Of a cluster of Ray, the machines
    count that are there now.

    Args:
        settings: Settings from flags and variables.

    Raises:
        BSMError: See :func:`run`.
    """
    with downloading(settings.allow_downloads), unpacked(settings.model_dir) as folder:
        artifact = Artifact.load(folder)
        settings = settings.with_artifact(artifact.raw_config)
        with _engine(settings, None, waits=False) as (_, devices):
            if settings.shard and settings.shard.divided and not _has_files(settings.data_dir):
                return _outline_without_files(settings, settings.shard, artifact, devices)
            whole = TableSource.open(settings.data_dir, settings.on_bad_line, settings.dialect)
            job = _planned(settings, artifact, whole, devices, None, time.time())[0]
            return trial(job, devices)


def _outline_without_files(settings: Settings, shard: Shard, artifact: Artifact, devices: DevicePlan) -> Outline:
    """Return the plan of a host to which the platform has given no files; see :func:`_without_files`."""
    return Outline(
        data_path=str(settings.data_dir),
        model=str(settings.model_dir),
        output=str(settings.output_dir / named(SUCCESS, shard)),
        rows=0,
        done=0,
        window_rows=settings.window_rows,
        files="the platform has given this host none",
        devices=str(devices),
        model_class=artifact.config.model_class,
        compat=artifact.config.compat,
        precision=settings.precision,
        backends={"": settings.backend},
        text={},
        features=list(artifact.config.tab_field_list),
        kept=[settings.id_field or "", *settings.keep_columns],
        classes=artifact.config.num_classes,
        provided={},
    )


Engine: TypeAlias = Callable[[Job, DevicePlan], tuple[RunResult, DevicePlan]]


@contextmanager
def _engine(settings: Settings, leader: Leader | None, *, waits: bool = True) -> Iterator[tuple[Engine, DevicePlan]]:
    """Provide the function that scores a job, and the devices of the run.

    Args:
        settings: The settings.
        leader: See :func:`run`.
        waits: See :func:`bsm_core.scoring.engines.ray_cluster.connected`.
    """
    if settings.engine == "ray":
        with ray_cluster.connected(settings, waits=waits) as devices:
            from bsm_core.scoring.engines import ray_driver

            yield ray_driver.run, devices
        return
    gpus = torch.cuda.device_count()
    devices = plan_world(settings, leader.world, gpus) if leader else plan_devices(settings, gpus)
    if devices.warning:
        log.warning("%s", devices.warning)
    yield partial(ranks.lead, leader) if leader else ranks.run, devices


def _planned(
    settings: Settings, artifact: Artifact, whole: TableSource, devices: DevicePlan, lock: Lock | None, began: float
) -> tuple[Job, Found]:
    """Find what is done, and return it with the job. Nothing is written."""
    format, source, shard = settings.output_format or whole.output_format, whole, settings.shard
    keep = whole.columns if settings.keep_columns == ("all",) else (settings.id_field or "", *settings.keep_columns)
    if shard and not shard.divided:
        source = whole.share(shard.number, shard.hosts, keep)
        if source.rowless:
            log.warning("there are %d files for %d shards: shard %s has none", len(whole.files), shard.hosts, shard)
    source = dataclasses.replace(source, limit=settings.limit)
    plan = plan_of(settings, artifact, inputs_of(source, settings.data_dir), format, source.dialect, devices)
    sink = Sink(settings.output_dir, lock=lock, shard=shard)
    fail = settings.on_bad_row == "fail"  # an earlier attempt may have left probabilities empty
    found = sink.find(plan, settings.resume, lambda record: not (fail and record.counts.get(MODEL_ROWS)))
    attempts = sink.work.attempts() if found.done else []
    digest = _digest_of_divided(settings, plan)
    if not (shard and shard.divided):
        inputs = inputs_of(whole, settings.data_dir)  # the times of files are not the same on all hosts
        states = {name: state if isinstance(state[1], str) else state[:1] for name, state in inputs.items()}
        digest = job_of(plan, shard, states, {})
    done, guards = found.done, guards_of_run()
    job = Job(settings, artifact, source, format, plan, done, found.altered, attempts, began, lock, digest, guards)
    warn_of_passed_over(settings.data_dir, whole.files)
    warn_of_no_marker(settings.data_dir)
    return job, found


def _job(
    settings: Settings, artifact: Artifact, whole: TableSource, devices: DevicePlan, lock: Lock, began: float
) -> Job:
    """Find what is done, remove the markers of an earlier run, and return the job."""
    log.info("scoring %s with %s on %s", settings.data_dir, settings.model_dir, devices)
    job, found = _planned(settings, artifact, whole, devices, lock, began)
    lock.require()
    with writing(settings.output_dir):  # with --resume require, they are still there
        Markers(settings.output_dir, settings.shard).clear()
    job.require_columns()
    if found.changed:
        lost, why = job.sink.work.rows_done(), "; ".join(found.changed)
        log.warning("the run begins anew, without %s finished rows, because it is another one: %s", f"{lost:,}", why)
    if found.done:
        log.info("%s rows are done by an earlier attempt: going on from there", f"{job.rows_done:,}")
    return job


def _has_files(data: Path) -> bool:
    if data.is_dir() or (is_pattern(data) and root_of(data).is_dir()):
        with suppress(OSError, DataError):  # whoever reads the files says what is wrong
            return bool(visible_files(data))
        return True
    return data.is_file()


def _without_files(
    settings: Settings, shard: Shard, artifact: Artifact, lock: Lock, leader: Leader | None, began: float
) -> RunResult:
    """Mark the shard of a host to which the platform has given no files as done, without a prediction file.

    Nothing says which columns, and of which types, the files of the other hosts have.
    """
    output = settings.output_dir
    with _engine(settings, leader) as (_, devices):
        plan = plan_of(settings, artifact, {}, settings.output_format, settings.dialect, devices)
    lock.require()
    with writing(output):
        Markers(output, shard).clear()
        for path in Sink(output, shard=shard).tables:
            path.unlink(missing_ok=True)
    mark_shard(output, DoneShard.without_rows(shard, _digest_of_divided(settings, plan)))
    log.info("the platform has given this host no files: it has nothing to score")
    committed = RunResult(output / named(SUCCESS, shard), 0, 0, time.time() - began, (), {}, {})
    if leader:
        leader.tell(committed)
    return committed


def _digest_of_divided(settings: Settings, plan: Mapping[str, Any]) -> str:
    """Return the digest of a job of which each host has files of its own, from which some settings may follow."""
    common = {"output_format": settings.output_format, **_dialect(settings.dialect)}
    return job_of(plan, settings.shard, {}, common)


def plan_of(
    settings: Settings,
    artifact: Artifact,
    inputs: Mapping[str, Sequence[int | str]],
    format: Format | None,
    dialect: Dialect,
    devices: DevicePlan,
) -> dict[str, Any]:
    """Return the plan of a run, as a dict of JSON values.

    Not in it is what changes neither rows nor numbers: devices, number of processes and workers, batch size, backend.
    ``--max-bad-rows`` is not in it either: with another limit, the parts that are done are the same. Nor is
    ``--on-bad-row``: after a row has failed, a run that leaves its probabilities empty goes on from there; and the
    other way round, :func:`run` computes the parts with empty probabilities again.

    Args:
        settings: Settings, the artifact's included.
        artifact: The artifact. All its files are hashed.
        inputs: Input files, see :func:`bsm_core.scoring.plan.inputs_of`.
        format: Format of the predictions; None: that of data, of which there are none.
        dialect: Dialect of the input files.
        devices: Devices of the run; on a GPU, the precision ``auto`` is another one than on the CPU.
    """
    automatic = "fp32" if devices.accelerator == "cpu" else "auto on a GPU"
    return {
        "bsm": __version__,
        "artifact": dict(artifact.hashes),
        "inputs": dict(inputs),
        "components": components_of_run(artifact),
        "settings": {
            "shard": settings.shard and str(settings.shard),
            "id_field": settings.id_field,
            "keep_columns": list(settings.keep_columns),
            "predicted_class": settings.predicted_class,
            "emit": settings.emit,
            "output_format": format,
            "window_rows": settings.window_rows,
            "max_cell_mb": settings.max_cell_mb,
            **({} if settings.limit is None else {"limit": settings.limit}),
            "on_bad_line": settings.on_bad_line,
            **_dialect(dialect),
            "precision": automatic if settings.precision == "auto" else str(settings.precision),
        },
    }


def _dialect(dialect: Dialect) -> dict[str, Any]:
    return {f"csv_{name}": value for name, value in dialect.values().items()}
