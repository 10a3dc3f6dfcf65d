"""One process that scores windows: its predictor, checked against the data, and Lightning's Trainer around it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.callbacks import Callback

from bsm_core.backends.choose import ChosenBackends, encoders_of
from bsm_core.errors import ArtifactError, DataError
from bsm_core.plugins.discovery import WORDS
from bsm_core.predictor import Predictor
from bsm_core.predictor.embedding_columns import EmbeddingColumns
from bsm_core.predictor.probability_columns import added_fields, check_names, with_probabilities
from bsm_core.preprocess.findings import Findings
from bsm_core.preprocess.loader import OnDemandLoader, WindowLoader, Work
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.profile import TOTAL, Times
from bsm_core.runtime.signals import passing_interrupts
from bsm_core.runtime.versions import DISTRIBUTION
from bsm_core.scoring.counting import binning_of
from bsm_core.scoring.engines.callbacks import BeforeFirstWindow, Begin, PartMaker
from bsm_core.scoring.engines.devices import DevicePlan, loader_workers
from bsm_core.scoring.engines.trainer import Clock, of_all_ranks, quiet, threads_for, trainer
from bsm_core.scoring.engines.work import Job
from bsm_core.scoring.output.part import Part
from bsm_core.scoring.output.row_issues import RowIssuesFile, issues_table
from bsm_core.scoring.output.run_report import check_report
from bsm_core.scoring.plan import require_unchanged
from bsm_core.scoring.provenance import other_packages, require_same
from bsm_core.scoring.run_events import Outline
from bsm_core.scoring.self_check import check, require_fit
from bsm_core.scoring.settings import Settings
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import known_rows
from bsm_core.tables.windows import Window
from bsm_core.tables.write import output_schema

log = logging.getLogger("bsm")


class Scorer:
    """Predictor of one process of a run, checked against the data.

    Args:
        job: The job.
        plan: Devices of the job.
        first: Whether this is the first process, which alone checks what all processes have in common.
        dry: Whether nothing may be written, not even to see whether it can be.

    Attributes:
        job, plan: See above.
        predictor: The artifact's model and preprocessing, checked.
        source: The input table.
        schema: Columns and types of the predictions.
        embeddings: Columns of the embeddings; None without ``--emit embeddings``.
        num_workers: Number of loader workers.
        binning: What is counted of each window; None if nobody asks for statistics: neither ``--report`` nor
            ``--run-record`` is given, and no observer gets the run record.
        chosen: Chosen backends and precision; None before :meth:`predict`.
        difference: Largest difference of a check row's probability from the stored one; None if none was scored.
        times: Times of this process; of all processes after :meth:`wait_for_others`.

    Raises:
        BSMError: The data, the artifact or a plugin is at fault.
    """

    def __init__(self, job: Job, plan: DevicePlan, *, first: bool = True, dry: bool = False) -> None:
        self.job, self.plan = job, plan
        settings, source, keep = job.settings, job.source, job.keep
        self.predictor = Predictor.load(
            job.artifact,
            batch_size=settings.batch_size,
            on_bad_row=settings.on_bad_row,
            keep=list(keep),
            max_cell_mb=settings.max_cell_mb,
            source=source,
            embeds=settings.emit is not None,
        )
        if not first:
            self.predictor.hooks.take_failures()  # they fail in every process alike: the first alone counts them
        elif settings.strict:
            require_same(job.artifact, self.predictor)
        elif first:
            for change in other_packages(job.artifact, self.predictor):
                log.warning("%s; --strict makes this an error", change)
        num_classes = self.predictor.model.config.num_classes
        check_names(keep, num_classes, job.classes)
        self.source = job.table
        kept = self.source.schema(list(keep))
        self.schema = pa.schema([*kept, *added_fields(num_classes, job.classes)])
        self.embeddings: EmbeddingColumns | None = None
        if settings.emit is not None:
            id_column = output_schema(pa.schema([kept.field(0)]), source.format, "parquet").field(0)
            self.embeddings = EmbeddingColumns(id_column, self.predictor.embedding_sizes)
        if first and settings.row_issues is not None and not dry:
            RowIssuesFile.check(settings.row_issues, kept.field(0), source.format, settings.output_dir)
        if first and settings.report is not None:
            check_report(settings.report)
        self.num_workers = _loader_workers(settings, plan, self.predictor, self.source)
        asked = settings.report is not None or settings.run_record or self.predictor.hooks.has("bsm_committed")
        self.binning = binning_of(self.predictor) if asked else None
        self.chosen: ChosenBackends | None = None
        self.difference: float | None = None
        self.times = Times()

    def predict(
        self,
        deliver: Callable[[Part], None],
        begin: Begin,
        *,
        work: Work | None = None,
        earlier: Mapping[str, str],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Score the windows of this process.

        Args:
            deliver: Function that takes the part of each window.
            begin, earlier: See :class:`bsm_core.scoring.engines.callbacks.BeforeFirstWindow`.
            work: See :class:`bsm_core.preprocess.loader.WindowLoader`.
            callbacks: Further callbacks of the Trainer, called before the hooks of plugins.

        Raises:
            BSMError: The data, the artifact, a plugin or a device is at fault.
        """
        predictor, plan, settings = self.predictor, self.plan, self.job.settings
        kind = OnDemandLoader if isinstance(work, Generator) else WindowLoader
        loader = kind(
            self.source,
            predictor.preprocessor,
            rows=settings.window_rows,
            done=self.job.positions,
            work=work,
            num_workers=self.num_workers,
            pin_memory=plan.accelerator == "gpu",
        )
        # In a lower precision, or on a GPU, check rows show how far the probabilities move.
        lower_precision = plan.accelerator == "gpu" or settings.precision not in ("auto", "fp32")
        check_rows = self.job.artifact.check_rows if settings.self_check or lower_precision else None
        before = BeforeFirstWindow(predictor, settings, check_rows, begin, earlier)
        maker = PartMaker(predictor, self.binning, self.times, deliver, self.job.classes, self.embeddings)
        try:
            with quiet(), threads_for(predictor), self.times.of(TOTAL), passing_interrupts():
                runner = trainer(plan, [before, *callbacks, maker], Clock(self.times))
                runner.predict(predictor.model, loader, return_predictions=False)
        except DataError:
            self.require_unchanged()  # explains what is odd in a file that was changed while it was read
            raise
        self.chosen, self.difference = before.chosen, before.difference
        self._barrier = runner.strategy.barrier

    def outline(self, chosen: ChosenBackends | None) -> Outline:
        """Return the plan of the run, for people.

        Args:
            chosen: Chosen backends and precision.
        """
        job, preprocessor, model = self.job, self.predictor.preprocessor, self.predictor.model.component
        steps = [step.component for pipeline in preprocessor.pipelines.values() for step in pipeline.steps]
        others = [
            c
            for c in (model, *steps, *self.predictor.hooks.components)
            if c and c.provider.distribution != DISTRIBUTION
        ]
        files = f"{len(self.source.files)} {self.source.format} file(s)"
        return Outline(
            data_path=str(job.settings.data_dir),
            model=str(job.settings.model_dir),
            output=str(job.sink.path(job.format)),
            embeddings=str(job.sink.embeddings) if self.embeddings else "",
            rows=known_rows(self.source),
            done=job.rows_done,
            window_rows=job.settings.window_rows,
            files=files if job.settings.limit is None else f"{files}, the first {job.settings.limit:,} rows",
            devices=str(self.plan),
            model_class=preprocessor.config.model_class,
            compat=preprocessor.config.compat,
            precision="fp32" if chosen is None else str(chosen.precision),
            backends={} if chosen is None else dict(chosen.backends),
            text={name: [step.name for step in p.steps] for name, p in preprocessor.pipelines.items()},
            features=list(preprocessor.config.tab_field_list),
            kept=list(job.keep),
            classes=len(self.predictor.probability_names),
            provided={f"{WORDS[c.kind]} {c.name}": str(c.provider) for c in others},
        )

    def part_without_scores(self, window: Window, reason: str) -> Part:
        """Return the part of a window that cannot be scored: rows without probabilities.

        Args:
            window: The window.
            reason: Reason for the row issues.
        """
        kept, failed = window.table.select(list(self.job.keep)), range(window.table.num_rows)
        findings = Findings(bad_lines=window.bad_lines).with_failed_rows(dict.fromkeys(failed, reason))
        probabilities = np.full((len(failed), len(self.predictor.probability_names)), np.nan)
        return Part(
            window=window.index,
            last=window.last,
            end=window.end,
            table=with_probabilities(kept, probabilities, failed, self.job.classes),
            counts=findings.counts(),
            issues=issues_table(kept, window.start, findings),
            fraction=window.fraction,
            files=window.files,
            embeddings=self.embeddings and self.embeddings.table(kept.column(0), {}, failed),
        )

    def wait_for_others(self) -> None:
        """Wait until all processes have come here, and add up their times."""
        self._barrier("parts")
        self.times = of_all_ranks(self.times, self.plan.count)

    def require_unchanged(self) -> None:
        """Check that the input and the artifact are those with which the run began.

        Raises:
            DataError, ArtifactError: A file was changed.
        """
        require_unchanged(self.job.plan, self.job.source, self.job.settings.data_dir)
        if changed := self.job.artifact.hashes.changed():
            raise ArtifactError(
                f"{', '.join(changed)} was changed during the run",
                where=str(self.job.settings.model_dir),
                fix="run again when nothing writes to the artifact any more; the run begins anew then",
            )


def trial(job: Job, plan: DevicePlan) -> Outline:
    """Build the predictor of a job, choose its backends and score the check rows, and return the plan of the run.

    Args:
        job: The job.
        plan: Devices of the job, of which the first one is used. GPUs of actors may not be on this machine.

    Raises:
        BSMError: The artifact, a plugin or the device is at fault, or columns are missing.
    """
    job.require_columns()
    scorer, settings = Scorer(job, plan, dry=True), job.settings
    predictor, check_rows = scorer.predictor, job.artifact.check_rows
    if check_rows is not None:
        require_fit(predictor, check_rows)
    if plan.actors and plan.accelerator == "gpu" and not torch.cuda.is_available():
        log.warning("the GPUs of the actors are on other machines: backends and the check rows are not tried here")
        asked = dict.fromkeys(encoders_of(predictor.model), settings.backend)
        return scorer.outline(ChosenBackends(settings.precision, asked))
    predictor.model.to("cpu" if plan.accelerator == "cpu" else f"cuda:{plan.ids[0]}")
    earlier = job.earlier_backends(plan)
    chosen = predictor.choose_backends(settings.precision, settings.backend, check_rows, earlier)
    if check_rows is not None and settings.self_check:
        check(predictor, check_rows)
    return scorer.outline(chosen)


def _loader_workers(settings: Settings, plan: DevicePlan, predictor: Predictor, source: TableSource) -> int:
    """Return ``--num-workers`` if set; else a number for the devices, 0 without text fields or for a single window."""
    if settings.num_workers is not None:
        return settings.num_workers
    workers = loader_workers(plan, cores())
    if not workers or not predictor.preprocessor.pipelines:
        return 0
    with closing(source.windows(predictor.preprocessor.keep[:1], rows=settings.window_rows)) as windows:
        return 0 if next(windows).last else workers  # a process takes seconds to start
