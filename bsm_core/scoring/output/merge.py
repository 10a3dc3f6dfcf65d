"""The shards of a job, which several hosts have scored: whether all are there, and one prediction file of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bsm_core.errors import DataError, UsageError
from bsm_core.runtime import durable
from bsm_core.runtime.durable import writing
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.manifest import PartRecord, WorkFolder
from bsm_core.scoring.output.markers import FAILURE, PREDICTIONS, SUCCESS, Markers, named
from bsm_core.scoring.output.shard import Shard
from bsm_core.storage.temporary import scratch
from bsm_core.tables.data_files import Format, detect_format
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Window
from bsm_core.tables.write import TableWriter, output_schema


@dataclass(frozen=True)
class DoneShard:
    """Content of the marker ``_SUCCESS-0000I`` of a shard.

    Attributes:
        shard: The shard.
        job: Digest of what all shards of a job have in common.
        output: Name of the prediction file.
        rows: Number of rows from each file of the shard, in order.
    """

    shard: Shard
    job: str
    output: str
    rows: Sequence[int]

    @classmethod
    def of(cls, shard: Shard, job: str, output: Path, records: Sequence[PartRecord], files: int) -> DoneShard:
        """Return the content of the marker of a shard whose parts are done.

        Args:
            shard, job: See above.
            output: The prediction file.
            records: Records of its parts.
            files: Number of its files.
        """
        rows = [0] * files
        for record in records:
            for file, count in record.files:
                rows[file] += count
        return cls(shard, job, output.name, rows)

    @classmethod
    def read(cls, path: Path) -> DoneShard | None:
        """Return the content of a marker; None if there is none, or it is no marker of a shard."""
        with suppress(OSError, ValueError, TypeError):
            values = json.loads(path.read_bytes())
            return cls(**{**values, "shard": Shard(*values["shard"])})
        return None

    def text(self) -> str:
        """Return the content as it is written."""
        return json.dumps(asdict(self)) + "\n"


def job_of(plan: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return the digest of what all shards of a job have in common, in hexadecimal.

    Args:
        plan: Plan of one of them.
        inputs: Files of all of them, see :func:`bsm_core.scoring.plan.inputs_of`.
    """
    settings = {**plan["settings"], "shard": None}
    common = {**plan, "settings": settings, "inputs": inputs}
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()


def mark_job(output: Path, done: DoneShard) -> bool:
    """Write ``_SUCCESS`` if all shards of a job are done; return whether they are.

    Args:
        output: The output folder.
        done: The shard that is done now.

    Raises:
        OSError: The marker cannot be written.
    """
    shards = [DoneShard.read(output / named(SUCCESS, Shard(i, done.shard.hosts))) for i in range(done.shard.hosts)]
    whole = all(other is not None and other.job == done.job for other in shards)
    if whole:
        durable.write(output / SUCCESS, "")
    return whole


def merge(output: Path, format: Format | None = None) -> tuple[Path, int]:
    """Make one prediction file of the prediction files of all shards, with the rows in the order of the data.

    Args:
        output: The output folder of the shards.
        format: Format of the file. None: that of the shards.

    Returns:
        The file, and its number of rows.

    Raises:
        UsageError: Not all shards are done, or they are of different jobs.
        DataError: The prediction file of a shard is damaged, or was changed.
        OutputInUseError: Another run writes into the folder.
        SinkError: The file cannot be written.
    """
    shards = _shards(output)
    sources = [TableSource.open(output / shard.output) for shard in shards]
    first = sources[0]
    format = format or detect_format(Path(shards[0].output))
    schema = output_schema(first.schema(first.columns), first.format, format)
    sources = [source.typed(schema) for source in sources]
    path = output / f"{PREDICTIONS}.{format}"
    work, count = WorkFolder(output), 0
    with holding(work.lock) as lock, writing(output), ExitStack() as stack:
        readers = [
            stack.enter_context(closing(_Rows(source, shard))) for source, shard in zip(sources, shards, strict=True)
        ]
        Markers(output).clear()
        temporary = stack.enter_context(scratch(work.path)) / path.name
        with TableWriter(temporary, schema, format) as writer:
            for number, rows in _in_order(shards):
                for table in readers[number].take(rows):
                    writer.write(table)
                    count += len(table)
        for reader in readers:
            reader.require_end()
        lock.require()
        durable.replace(temporary, path)
        Markers(output).succeed()
    return path, count


def _shards(output: Path) -> list[DoneShard]:
    """Return the shards of an output folder, in order.

    Raises:
        UsageError: See :func:`merge`.
    """
    if not output.is_dir():
        raise UsageError("there is no such folder", where=str(output), fix="give the output folder of the shards")
    found = {path: DoneShard.read(path) for path in sorted(output.glob(f"{SUCCESS}-*"))}
    shards = [shard for shard in found.values() if shard]
    if not shards:
        what = "no shard is done in this folder"
        raise UsageError(what, where=str(output), fix="run the job with --shard I/N for each I from 0 to N-1")
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    hosts, job = (found[newest] or shards[0]).shard.hosts, (found[newest] or shards[0]).job
    missing = []
    for number in range(hosts):
        shard = next((each for each in shards if each.shard[:2] == (number, hosts)), None)
        if shard is None or shard.job != job:
            why = "is not done" if shard is None else "is of another job: other files, another artifact or settings"
            failure = output / named(FAILURE, Shard(number, hosts))
            said = f": {failure.read_text(errors='replace').strip()}" if failure.exists() else ""
            missing.append(f"shard {number}/{hosts} {why}{said}")
    if missing:
        what = f"{len(missing)} of {hosts} shards cannot be merged"
        raise UsageError(what, where=str(output), details=missing, fix="run these shards again, then merge")
    return sorted((each for each in shards if each.shard.hosts == hosts), key=lambda each: each.shard.number)


def _in_order(shards: Sequence[DoneShard]) -> Iterator[tuple[int, int]]:
    """Yield the number of a shard and the number of its next rows, in the order of the data."""
    if any(each.shard.divided for each in shards):
        for number, each in enumerate(shards):
            yield number, sum(each.rows)
        return
    for place in range(max(len(each.rows) for each in shards)):
        for number, each in enumerate(shards):
            if place < len(each.rows):
                yield number, each.rows[place]


class _Rows:
    """Reader that takes a number of rows at a time."""

    def __init__(self, source: TableSource, shard: DoneShard) -> None:
        self._path, self._shard = source.files[0], shard
        self._windows = source.windows(source.columns)
        self._rest: pa.Table | None = None

    def take(self, rows: int) -> Iterator[pa.Table]:
        """Yield the next rows.

        Raises:
            DataError: There are fewer.
        """
        while rows:
            if not self._rest:
                window: Window | None = next(self._windows, None)
                if window is None:
                    raise self._changed()
                self._rest = window.table
            table, self._rest = self._rest.slice(0, rows), self._rest.slice(rows)
            rows -= len(table)
            yield table

    def require_end(self) -> None:
        """Check that all rows were taken.

        Raises:
            DataError: There are more.
        """
        if self._rest or any(len(window.table) for window in self._windows):
            raise self._changed()

    def close(self) -> None:
        """Close the file."""
        self._windows.close()

    def _changed(self) -> DataError:
        what = f"shard {self._shard.shard} wrote {sum(self._shard.rows):,} rows, and the file now has another number"
        return DataError(what, where=str(self._path), fix="run the shard again, then merge")
