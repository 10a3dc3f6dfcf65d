"""A run as all its processes see it, and the work that they share."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bsm_core.artifact import Artifact
from bsm_core.backends.choose import ChosenBackends
from bsm_core.errors import EngineError, MissingColumnsError
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import default_registry
from bsm_core.predictor.probability_columns import Classes
from bsm_core.preprocess.dataset import wanted_columns
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.durable import writing
from bsm_core.runtime.versions import __version__
from bsm_core.scoring.engines.devices import DevicePlan, loader_workers
from bsm_core.scoring.output.lock import Lock
from bsm_core.scoring.output.manifest import Attempt, PartRecord
from bsm_core.scoring.output.sink import Sink
from bsm_core.scoring.plan import differences
from bsm_core.scoring.provenance import source_hash
from bsm_core.scoring.settings import Settings
from bsm_core.tables.data_files import Format
from bsm_core.tables.lent_streams import Reader
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import work_of
from bsm_core.tables.windows import Position, Split, Window
from bsm_core.tables.write import output_schema


@dataclass(frozen=True)
class Job:
    """A run, as all its processes see it.

    Attributes:
        settings: Settings, the artifact's included.
        artifact: The artifact.
        source: The input table, as it was when the run began.
        format: Format of the predictions.
        plan: What makes two runs the same run, from :func:`bsm_core.scoring.plan.plan_of`.
        done: Parts that earlier attempts have finished, by window.
        altered: Number of parts that are computed again, because their checksums are wrong.
        earlier: Attempts that made these parts.
        began: Start of the run, in seconds as ``time.time()`` returns them.
        lock: Lock of the output folder; None of a dry run, which holds none.
        digest: What this run has in common with the other shards of its job.
        guards: The guards that let this run begin, as :func:`guards_of_run` returns them.
    """

    settings: Settings
    artifact: Artifact
    source: TableSource
    format: Format
    plan: Mapping[str, Any]
    done: Mapping[int, PartRecord]
    altered: int
    earlier: Sequence[Attempt]
    began: float
    lock: Lock | None
    digest: str
    guards: Mapping[str, list[str | None]]

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return len(self.earlier) + 1

    @property
    def sink(self) -> Sink:
        """The sink of this attempt."""
        return Sink(self.settings.output_dir, self.attempt, self.lock, self.settings.shard)

    @property
    def keep(self) -> dict[str, str]:
        """The id column and the columns of ``--keep-columns``, each with the setting that asks for it.

        Raises:
            MissingColumnsError: No id column is set.
        """
        if not self.settings.id_field:
            known = self.artifact.raw_config.get("id_name")
            told = [f"the id in training: {known}"] if isinstance(known, str) and known in self.source.columns else []
            raise MissingColumnsError(
                "ID_FIELD is not set: which column holds the id?",
                details=[f"the data has: {', '.join(self.source.columns)}", *told],
                fix="set it to one of them, or give --id-field; rows without an id keep their order: name any column",
            )
        others = self.source.columns if self.settings.keep_columns == ("all",) else self.settings.keep_columns
        kept = dict.fromkeys([self.settings.id_field, *others], "--keep-columns")
        return kept | {self.settings.id_field: "--id-field (ID_FIELD)"}

    @property
    def classes(self) -> Classes | None:
        """Name of each class with ``--predicted-class``; else None."""
        return self.artifact.config.classes if self.settings.predicted_class else None

    def require_columns(self) -> None:
        """Check that the data has the columns that are kept, and those that the artifact needs.

        Raises:
            MissingColumnsError: No id column is set, or columns are missing; the error lists all of them.
        """
        needed = self.keep
        for name, key in wanted_columns(self.artifact.config).items():
            needed[name] = f"{needed[name]} and {key}" if name in needed else key
        self.source.require(needed)

    @property
    def table(self) -> TableSource:
        """The input table, whose kept columns have the types of the output.

        Raises:
            DataError: A kept column cannot be written.
        """
        return self.source.typed(output_schema(self.source.schema(list(self.keep)), self.source.format, self.format))

    @property
    def positions(self) -> dict[int, Position | None]:
        """Windows that are done, each with the place where it ends, if that is known."""
        return {window: record.end and Position(*record.end) for window, record in self.done.items()}

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return list(dict.fromkeys([*self.keep, *wanted_columns(self.artifact.config)]))

    def work(self, plan: DevicePlan) -> Generator[Split | Window, None, None]:
        """Yield what is left to do for the processes of a plan, see :func:`bsm_core.tables.splits.work_of`."""
        rows, workers = self.settings.window_rows, self.settings.num_workers
        consumers = plan.count * max(1, loader_workers(plan, cores()) if workers is None else workers)
        yield from work_of(self.table, self.columns, rows=rows, done=self.positions, consumers=consumers)

    def windows_of(self, split: Split) -> Reader[Window]:
        """Read the windows of a split."""
        return self.table.windows_of(split, self.columns, rows=self.settings.window_rows)

    def cut(self, split: Split, done: int, pieces: int) -> list[Split]:
        """Read a split, and return what is left of it in pieces of about the same number of windows.

        Args:
            split: The split.
            done: Number of its windows that are not left.
            pieces: Most pieces.
        """
        found, begin, start = list[Split](), split.first, split.start
        size, final = -(-(split.windows - done) // pieces), split.first + split.windows
        with closing(self.windows_of(split)) as windows:
            for window in windows:
                after = window.index + 1
                new = after - split.first - done
                if after < final and (window.end is None or new < 0 or new % size):
                    continue
                if new > 0:
                    found.append(Split(begin, after - begin, start, window.end or split.end, window.last))
                begin, start = after, window.end or split.end
        return found

    @property
    def rows_done(self) -> int:
        """Number of rows of the parts that earlier attempts have finished."""
        return sum(record.rows for record in self.done.values())

    def earlier_backends(self, plan: DevicePlan) -> Mapping[str, str]:
        """Return the backend of each encoder in the last attempt on this host and these devices.

        Another trial may find another backend, and each rounds in its own way.
        """
        here = socket.gethostname(), str(plan)
        used = [attempt.encoders for attempt in self.earlier if (attempt.host, attempt.device) == here]
        return used[-1]["backends"] if used and used[-1] else {}

    def begin(self, chosen: ChosenBackends | None, plan: DevicePlan) -> None:
        """Prepare the work folder and record the attempt; no part has been written, and nothing else can be wrong.

        Args:
            chosen: Backends and precision of the text encoders.
            plan: Devices of the job.
        """
        attempt = Attempt(
            attempt=self.attempt,
            host=socket.gethostname(),
            process=os.getpid(),
            began=datetime.fromtimestamp(self.began, UTC).isoformat(timespec="seconds"),
            device=str(plan),
            encoders=None if chosen is None else asdict(chosen),
        )
        self.sink.begin(self.plan, self.done)
        with writing(self.settings.output_dir):
            self.sink.work.add(attempt)


def components_of_run(artifact: Artifact) -> dict[str, list[str | None]]:
    """Return package, version and hash of the code of each component that an artifact names, by kind and name."""
    names = artifact.names(default_registry())  # an unknown name is an error when the model is built
    components = [found for found in names.found.values() if isinstance(found, Component)]
    return {f"{component.kind} {component.name}": _code_of(component) for component in components}


def guards_of_run() -> dict[str, list[str | None]]:
    """Return package, version and hash of the code of each guard of this process, by name."""
    guards = [component for component in default_registry().components if component.kind == "guard"]
    return {guard.name: _code_of(guard) for guard in sorted(guards, key=lambda guard: guard.name)}


def _code_of(component: Component) -> list[str | None]:
    return [*component.origin.split(":", 1), source_hash(component)]


def require_same_code(job: Job) -> None:
    """Check that this host has the code and the artifact with which the run was planned, on another host.

    Raises:
        EngineError: It has others; the error names the differences.
    """
    here = {"bsm": __version__, "artifact": dict(job.artifact.hashes), "components": components_of_run(job.artifact)}
    planned = {name: job.plan[name] for name in here}
    if changed := differences({**planned, "guards": job.guards}, {**here, "guards": guards_of_run()}):
        what = f"host {socket.gethostname()} would score with other code or another artifact"
        raise EngineError(what, details=changed, fix="install the same packages, and the same artifact, on all hosts")
