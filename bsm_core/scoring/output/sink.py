"""The sink turns predicted windows into the prediction file and, if they are asked for, the file of the embeddings.

The output rows of each window are written to a part, a file in the work folder, and the manifest gets a line. The
commit writes the parts, in order, to temporary files, then renames them when all are complete; readers never see an
incomplete file. A part that is done stays until the run has succeeded, so a run that was killed can go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from bsm_core.errors import EngineError, NothingToResumeError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.runtime import durable, signals
from bsm_core.runtime.durable import in_parallel, writing
from bsm_core.scoring.output.lock import Lock
from bsm_core.scoring.output.manifest import PartRecord, WorkFolder
from bsm_core.scoring.output.markers import EMBEDDINGS, PREDICTIONS
from bsm_core.scoring.output.part import PackedPart, Part, PartTables
from bsm_core.scoring.output.row_issues import CommitReview
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.plan import differences
from bsm_core.storage.temporary import scratch
from bsm_core.tables.data_files import FORMATS, Format
from bsm_core.tables.write import TableWriter

_FLUSHES = 16
"""Number of parts that are written at the same time."""
RUN_AGAIN = "run again; please report it if it happens again"
"""Advice for errors that only a fault of bsm can cause."""
_READ_AHEAD = 3
"""Number of parts that are read while one is written into the prediction file."""


@dataclass(frozen=True)
class Found:
    """Parts that earlier attempts left.

    Attributes:
        done: Records of the parts that are what the manifest says, by window.
        altered: Number of the other parts, which are computed again.
        changed: What makes the earlier run another one, whose parts are of no use; empty if nothing does.
    """

    done: dict[int, PartRecord]
    altered: int = 0
    changed: Sequence[str] = ()


@dataclass(frozen=True)
class Sink:
    """Output folder of a run. A sink holds no open file, so each process of a run can have its own.

    Args:
        folder: The output folder, which exists and whose lock is held.
        attempt: Number of this attempt of the run, from 1.
        lock: Lock of the folder, which is compared before each step that would harm another run; None: no check.
        shard: Share of this host; None if the job has no others.
        hand_over: Function that hands the records of parts to the process that appends them to the manifest, and waits
            until they are on the disk. None: this process appends them.
    """

    folder: Path
    attempt: int = 1
    lock: Lock | None = None
    shard: Shard | None = None
    hand_over: Callable[[Sequence[PartRecord]], None] | None = None

    @property
    def work(self) -> WorkFolder:
        """The work folder."""
        return WorkFolder(self.folder, self.shard)

    def path(self, format: Format) -> Path:
        """Return the prediction file of a format."""
        return self.folder / f"{PREDICTIONS}{self.shard.name if self.shard else ''}.{format}"

    @property
    def embeddings(self) -> Path:
        """The file of the embeddings."""
        return self.folder / f"{EMBEDDINGS}{self.shard.name if self.shard else ''}.parquet"

    @property
    def tables(self) -> list[Path]:
        """The files of which a run writes some, and removes the others: those of an earlier run."""
        return [*map(self.path, FORMATS), self.embeddings]

    @property
    def temporaries(self) -> list[Path]:
        """The files that :meth:`new_files` writes before they are in their places."""
        return [self.work.path / path.name for path in self.tables]

    def require_lock(self) -> None:
        """Check that the run still holds the lock of the folder.

        Raises:
            SinkError: The folder was removed, or another run has taken it over.
        """
        if self.lock is not None:
            self.lock.require()

    def find(
        self,
        plan: Mapping[str, Any],
        resume: Literal["auto", "require", "never"],
        usable: Callable[[PartRecord], bool] = lambda record: True,
    ) -> Found:
        """Find the parts that earlier attempts of the same run have finished. Nothing is touched.

        Args:
            plan: The plan of this run.
            resume: The setting ``--resume``.
            usable: Returns whether this run can keep a part of the earlier ones.

        Raises:
            NothingToResumeError: With ``require``: there are no such parts.
            SinkError: The folder cannot be read.
        """
        if resume == "never":
            return Found({})
        with writing(self.folder):
            stored = self.work.plan()
            changed = [] if stored is None else differences(stored, plan)
            records = {} if changed or stored is None else self.work.records()
            in_order = [records[window] for window in sorted(records)]
            are_whole = in_parallel(self.work.is_whole, in_order)
            whole = {record.window: record for record, found in zip(in_order, are_whole, strict=True) if found}
        done = {window: record for window, record in whole.items() if usable(record)}
        if resume == "require" and not done:
            raise NothingToResumeError(
                "--resume require: " + ("the run is another one" if changed else "there is nothing to resume"),
                where=str(self.folder),
                details=changed,
                fix="give the settings and files of the earlier run, or leave --resume out to begin anew",
            )
        return Found(done, len(records) - len(whole), changed)

    def begin(self, plan: Mapping[str, Any], done: Mapping[int, PartRecord]) -> None:
        """Prepare the work folder for the parts of this attempt, and remove the parts of another run.

        Args:
            plan: The plan of this run.
            done: Parts to keep, by window.

        Raises:
            SinkError: The folder cannot be written.
        """
        self.require_lock()
        with writing(self.folder):
            if done:
                self.work.keep(done.values())
            else:
                self.work.begin(plan)

    def write_part(self, part: Part) -> None:
        """Write the part of a window. See :meth:`write_parts`."""
        self.write_parts([part.packed(self.attempt)])

    def write_parts(self, parts: Sequence[PackedPart]) -> None:
        """Write parts, and wait until they and their lines in the manifest are on the disk.

        Raises:
            SinkError: A part cannot be written, or the lock is lost.
        """
        self.require_lock()
        with writing(self.folder):
            for _ in in_parallel(self._store, parts):
                pass
            durable.flush(self.work.part(0).parent)
        (self.hand_over or self.add)([part.record for part in parts])

    def add(self, records: Sequence[PartRecord]) -> None:
        """Append the records of parts that are on the disk to the manifest. One process of a run may do that.

        Several hosts that append to one file of a network file system can lose each other's lines.

        Raises:
            SinkError: The manifest cannot be written, or the lock is lost.
        """
        self.require_lock()
        with writing(self.folder):
            self.work.add(*records)

    def _store(self, part: PackedPart) -> None:
        durable.store(self.work.part(part.record.window), memoryview(part.data))

    def commit(
        self,
        schema: pa.Schema,
        format: Format,
        review: CommitReview | None = None,
        seal: Callable[[Path], None] | None = None,
        embeddings: pa.Schema | None = None,
    ) -> Committed:
        """Write all parts, in order, to the prediction file and, if they have any, that of the embeddings.

        Args:
            schema, format, embeddings, seal: See :meth:`new_files`.
            review: Object that looks at each part, and then at the whole, before the files are in their places.

        Returns:
            The prediction file with its number of rows and windows, and the sums of all counts.

        Raises:
            EngineError: The part of a window is missing, or does not belong to the run.
            TooManyBadRowsError: The review finds more bad rows than are allowed.
            SinkError: The file cannot be written, or the lock is lost.
        """
        with writing(self.folder):
            records = self._in_order()
        with self.new_files(schema, format, embeddings, seal) as writers:
            for part in self._reviewed(records, review):
                for writer, table in zip(writers, (part.rows, part.embeddings), strict=False):
                    writer.write(table)
                signals.check()
        counts: dict[str, float] = {} if review is None else {**review.id_counts}
        for record in records:
            for key, value in record.counts.items():
                counts[key] = counts.get(key, 0) + value
        classes = () if review is None else tuple(review.statistics.classes)
        return Committed(self.path(format), sum(record.rows for record in records), len(records), counts, classes)

    def write(self, tables: Iterable[pa.Table], schema: pa.Schema, format: Format) -> Path:
        """Write the prediction file alone; return its path. See :meth:`new_files`.

        Args:
            tables: The rows, in order.
            schema, format: See :meth:`new_files`.
        """
        with self.new_files(schema, format) as (writer,):
            for table in tables:
                writer.write(table)
                signals.check()
        return self.path(format)

    @contextmanager
    def new_files(
        self,
        schema: pa.Schema,
        format: Format,
        embeddings: pa.Schema | None = None,
        seal: Callable[[Path], None] | None = None,
    ) -> Iterator[list[TableWriter]]:
        """Provide writers for the block, after which the files are complete and in their places, the predictions last.

        If the block fails, nothing is in its place.

        Args:
            schema: Columns of the prediction file and their types.
            format: Format of the prediction file. Prediction files of the other formats are removed.
            embeddings: Columns of the embeddings. None: there are none, and the file of an earlier run is removed.
            seal: Function that reads each complete file before it is in its place, as a file of this machine.

        Returns:
            The writer of the predictions and, if there is a schema, that of the embeddings.

        Raises:
            SinkError: A file cannot be written, or the lock is lost.
        """
        probabilities = dropwhile(lambda name: name != "prob_class_0", schema.names)  # the last columns
        wanted: dict[Path, tuple[Any, ...]] = {self.path(format): (schema, format, tuple(probabilities))}
        if embeddings is not None:
            wanted[self.embeddings] = (embeddings, "parquet")
        self.require_lock()
        with writing(self.folder), scratch(self.work.path) as folder:
            with ExitStack() as stack:
                writers = []
                for path, arguments in wanted.items():
                    (folder / path.name).unlink(missing_ok=True)  # of an attempt that was killed
                    writers.append(stack.enter_context(TableWriter(folder / path.name, *arguments)))
                yield writers
            if seal is not None:
                for path in wanted:
                    seal(folder / path.name)
            self.require_lock()
            for path in reversed(wanted):
                durable.replace(folder / path.name, path)
            for other in set(self.tables) - wanted.keys():  # of an earlier run: the new markers would vouch for it
                other.unlink(missing_ok=True)

    def _reviewed(self, records: Sequence[PartRecord], review: CommitReview | None) -> Iterator[PartTables]:
        """Return the tables of each part, after it was reviewed."""
        for record, part in zip(records, in_parallel(self._read, records, _READ_AHEAD), strict=True):
            if review is not None:
                review.add(part.rows, record.counts, part.issues)
                if part.statistics is not None:
                    review.count(part.statistics, record.counts)
            yield part
        if review is not None:
            self.require_lock()
            review.end()

    def _in_order(self) -> list[PartRecord]:
        """Return the records of all windows, in order."""
        found = self.work.records()
        records = [found[window] for window in sorted(found)]
        if [record.window for record in records] != list(range(len(records))) or not records:
            missing = next(window for window in range(len(records) + 1) if window not in found)
            raise EngineError(f"the rows of window {missing} were never written", where=str(self.folder), fix=RUN_AGAIN)
        if [record.window for record in records if record.last] != [records[-1].window]:
            what = "the processes of the run do not agree on which window is the last"
            fix = "look whether the input changes while it is read, then run with --resume never"
            raise EngineError(what, where=str(self.folder), fix=fix)
        return records

    def _read(self, record: PartRecord) -> PartTables:
        path = self.work.part(record.window)
        data = path.read_bytes()  # not mapped: a network file system keeps a deleted file that is mapped
        if hashlib.sha256(data).hexdigest() != record.sha256:
            what = f"the file with the rows of window {record.window} was changed after it was written"
            raise EngineError(what, where=str(path), fix="run again: these rows are computed again")
        return PartTables.of(pa.py_buffer(data))
