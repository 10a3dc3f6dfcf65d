"""The local engine: Lightning's Trainer on one device, or one process a device.

Every rank takes every ``world``-th window and writes its parts. Behind a barrier rank 0 alone commits and marks.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from bsm_core.artifact import Artifact
from bsm_core.artifact.check_rows import CheckRows, read_check_rows
from bsm_core.backends.choose import Tuned
from bsm_core.errors import DataError, EngineError, MissingColumnsError
from bsm_core.models.batch import Batch
from bsm_core.plugins.hooks import Hooks
from bsm_core.plugins.hookspecs import Committed
from bsm_core.predictor import Predictor, probability_names, warn_of_counts, warn_of_texts
from bsm_core.preprocess.dataset import WindowInfo, WindowLoader
from bsm_core.runtime.memory import FreeMemory
from bsm_core.runtime.profile import COMMIT, TOTAL, Times, table
from bsm_core.scoring.engines.clock import Clock, of_all_ranks
from bsm_core.scoring.engines.devices import DevicePlan, cores, loader_workers
from bsm_core.scoring.engines.progress import Progress
from bsm_core.scoring.engines.threads import threads_for
from bsm_core.scoring.provenance import components_of, record_of, require_same
from bsm_core.scoring.record import run_record
from bsm_core.scoring.self_check import check, require_fit
from bsm_core.scoring.settings import Settings
from bsm_core.scoring.sink import Sink
from bsm_core.tables import TableSource, output_schema, warn_of_passed_over

log = logging.getLogger("bsm")

_BESIDE_THE_POINT = (
    "Couldn't infer the batch indices",  # not needed: the window travels with its batch
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # between Lightning and torch
    ".*does not have many workers",  # advice for training loops
)
TEXTS_NAMED = 20
"""How many rows with an odd text a run names; further ones are only counted."""


@dataclass(frozen=True)
class Job:
    """What every rank needs to know; it holds names and paths alone, so it travels to other processes.

    Attributes:
        settings: The settings, complete.
        artifact: Folder of the unpacked artifact.
        began: When the run began, ``time.time()``.
    """

    settings: Settings
    artifact: Path
    began: float


class DistributedUnavailableError(EngineError):
    """The processes of the run could not be connected."""


class PartWriter(BasePredictionWriter):
    """Writes each window's probabilities, behind the columns it keeps, as its part; calls the hooks around it."""

    def __init__(self, sink: Sink, hooks: Hooks, times: Times) -> None:
        super().__init__(write_interval="batch")
        self.sink = sink
        self.hooks = hooks
        self.times = times
        self._named = 0
        self._free = FreeMemory()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Tell the hooks of the window."""
        self.hooks.window_start(batch)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one part. ``batch_indices`` are not trusted: the window travels with its batch."""
        info: WindowInfo = batch.window
        if info.findings.texts:
            ids = info.kept.column(0).to_pylist()
            self._named += warn_of_texts(info.findings, ids, TEXTS_NAMED - self._named)
        table = with_probabilities(info.kept, prediction)
        counts = {**info.findings.counts(), **self.hooks.window_end(batch, prediction)}
        self.times.add(info.times)
        self.sink.write_part(info.index, table, last=info.last, counts=counts)
        self._free.give_back()


class BeforeTheFirst(Callback):
    """Chooses what computes the encoders, and scores the artifact's check rows on the model as it is about to run.

    Attributes:
        tuned: What computes the encoders, once that is chosen.
        difference: The largest difference of a check row's probability, once they have been scored.
    """

    def __init__(self, predictor: Predictor, settings: Settings, rows: CheckRows | None) -> None:
        self.tuned: Tuned | None = None
        self.difference: float | None = None
        self._predictor, self._settings, self._rows = predictor, settings, rows

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """The model is on its device now, and no window has been scored."""
        if self._rows is not None:
            require_fit(self._predictor, self._rows)
        self.tuned = self._predictor.tune(self._settings.precision, self._settings.backend, self._rows)
        if self._rows is not None and self._settings.self_check:
            self.difference = check(self._predictor, self._rows)


class _DDP(DDPStrategy):
    def setup_environment(self) -> None:
        try:
            super().setup_environment()
            self.barrier("connected")  # NCCL connects no sooner than it must
        except (RuntimeError, ValueError, OSError) as error:  # what torch.distributed raises, by back end
            raise DistributedUnavailableError(f"the processes could not be connected: {error}") from error


def score(job: Job, plan: DevicePlan, rank: int = 0) -> Committed | None:
    """Score this rank's windows; on rank 0, also commit and mark.

    Args:
        job: The job.
        plan: Its devices.
        rank: Which of them is ours.

    Returns:
        What was committed, on rank 0.
    """
    settings, sink = job.settings, Sink(job.settings.output_dir)
    source = TableSource.open(settings.data_dir)
    format = settings.output_format or source.format
    keep = kept_columns(settings, source)
    if not rank:
        warn_of_passed_over(settings.data_dir)
    artifact = Artifact.load(job.artifact)
    changing = plan.accelerator == "gpu" or settings.precision not in ("auto", "fp32")  # which is told by check rows
    rows = read_check_rows(job.artifact) if settings.self_check or changing else None
    predictor = Predictor.load(artifact, batch_size=settings.batch_size, keep=list(keep))
    if rank:
        predictor.hooks.take_failures()  # so far they are those of every process, and count once
    told = settings.run_record or predictor.hooks
    hashes = dict(artifact.hashes) if told and not rank else {}  # now: files may change while we work
    if settings.strict:
        require_same(artifact, predictor)
    _check_columns(predictor, source, keep)
    schema = output_schema(source.schema(list(keep)), source.format, format)
    source = source.typed(schema)
    workers = _loader_workers(settings, plan, predictor, source)
    loader = WindowLoader(
        source,
        predictor.preprocessor,
        rows=settings.window_rows,
        rank=rank,
        world=plan.count,
        num_workers=workers,
        pin_memory=plan.accelerator == "gpu",
    )
    before, times = BeforeTheFirst(predictor, settings, rows), Times()
    callbacks = [before, PartWriter(sink, predictor.hooks, times), *([Progress()] if rank == 0 else [])]
    with quiet(), threads_for(predictor), times.of(TOTAL):
        runner = trainer(plan, callbacks, Clock(times) if settings.profile else None)
        runner.predict(predictor.model, loader, return_predictions=False)
    runner.strategy.barrier("parts")
    if settings.profile:
        times = of_all_ranks(times, plan.count)
    if rank:
        return None
    for name in predictor.probability_names:
        schema = schema.append(pa.field(name, pa.float64()))
    with times.of(TOTAL), times.of(COMMIT):
        committed = sink.commit(schema, format)
    warn_of_counts(committed.counts)
    if settings.profile:
        log.info("where the time went, start-up left out:\n%s", table(times, committed.rows, helped=workers > 0))
    record = run_record(
        settings,
        used=str(plan),
        components=[*components_of(predictor), *(record_of(c, c.name) for c in predictor.hooks.components)],
        hashes=hashes,
        self_check=before.difference,
        encoders=asdict(before.tuned) if before.tuned else None,
        committed=committed,
        seconds=time.time() - job.began,
        profile=times if settings.profile else None,
    )
    predictor.hooks.committed(committed, record)
    for key, count in predictor.hooks.take_failures().items():
        record["counts"][key] = committed.counts[key] = committed.counts.get(key, 0) + count
    sink.succeed(record if settings.run_record else None)
    return committed


def _loader_workers(settings: Settings, plan: DevicePlan, predictor: Predictor, source: TableSource) -> int:
    """What was asked for; else what suits the devices, and none where there is no text or a single window."""
    if settings.num_workers is not None:
        return settings.num_workers
    workers = loader_workers(plan, cores())
    if not workers or not predictor.preprocessor.pipelines:
        return 0
    first = next(source.windows(predictor.preprocessor.keep, rows=settings.window_rows))
    return 0 if first.last else workers  # a process takes seconds to start


def with_probabilities(kept: pa.Table, probabilities: Tensor) -> pa.Table:
    """The kept columns and, behind them, float64 ``prob_class_*`` columns from ``[rows, classes]``."""
    columns = probabilities.cpu().numpy()
    for i, name in enumerate(probability_names(columns.shape[1])):
        kept = kept.append_column(name, pa.array(columns[:, i], type=pa.float64()))
    return kept


def kept_columns(settings: Settings, source: TableSource) -> dict[str, str]:
    """The id column, then the columns of ``--keep-columns``, and who wants each.

    Raises:
        MissingColumnsError: No id column is named.
    """
    if not settings.id_field:
        raise MissingColumnsError(
            "ID_FIELD is not set: which column holds the id?",
            details=[f"the data has: {', '.join(source.columns)}"],
            fix="set it to one of them, or give --id-field",
        )
    others = source.columns if settings.keep_columns == ("all",) else settings.keep_columns
    kept = dict.fromkeys([settings.id_field, *others], "--keep-columns")
    return kept | {settings.id_field: "--id-field (ID_FIELD)"}


def _check_columns(predictor: Predictor, source: TableSource, keep: Mapping[str, str]) -> None:
    wanted = dict(keep)
    for name, key in predictor.preprocessor.wanted.items():
        wanted[name] = f"{wanted[name]} and {key}" if name in wanted else key
    source.require(wanted)
    taken = set(keep) & set(predictor.probability_names)
    if taken:
        raise DataError(
            f"the data has a column named as a prediction column: {', '.join(sorted(taken))}",
            fix="rename it, or leave it out of --keep-columns",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and log lines of Lightning that tell the user nothing."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what they say at start is in our summary
    with warnings.catch_warnings():
        for message in _BESIDE_THE_POINT:
            warnings.filterwarnings("ignore", message)
        yield


def trainer(plan: DevicePlan, callbacks: list[Callback], profiler: Clock | None = None) -> Trainer:
    """A Trainer that predicts on the devices of a plan, and neither logs nor saves anything."""
    return Trainer(
        accelerator=plan.accelerator,
        devices=plan.count if plan.accelerator == "cpu" else list(plan.ids),
        strategy=_DDP() if plan.count > 1 else "auto",
        plugins=[LightningEnvironment()],  # the processes are ours; a cluster's variables mean others
        callbacks=callbacks,
        profiler=profiler,
        benchmark=plan.accelerator == "gpu",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
