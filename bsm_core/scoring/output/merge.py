"""The shards of a job, which several hosts have scored: whether all are there, and one prediction file of all."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from bsm_core.errors import DataError, UsageError
from bsm_core.report.record_check import why_unusable
from bsm_core.report.run_statistics import frame_of, merged_records
from bsm_core.runtime import signals
from bsm_core.runtime.durable import writing
from bsm_core.scoring.output.done_shard import DoneShard, FileState
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.scoring.output.markers import FAILURE, RECORD, SUCCESS, Markers, named, read_record
from bsm_core.scoring.output.shard import Shard
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.formats.column_types import merged_type
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Window


def mark_job(output: Path, done: DoneShard) -> bool:
    """Write ``_SUCCESS`` if all shards of a job are done and can be merged; return whether it is written.

    Several hosts can do this at the same time, also while another one begins its shard again: that one removes its own
    marker, then ``_SUCCESS``. So this function looks at the markers again when it has written ``_SUCCESS``.

    Args:
        output: The output folder.
        done: The shard that is done now.

    Raises:
        DataError: The prediction files have different formats, columns or types, so they cannot be merged.
        OSError: The marker cannot be written.
    """
    while shards := _all_done(output, done):
        opened_shards(output, shards)
        Markers(output, done.shard).succeed_of_job()
        if _all_done(output, done):
            return True
        (output / SUCCESS).unlink(missing_ok=True)
    return False


def _all_done(output: Path, done: DoneShard) -> list[DoneShard]:
    """Return all shards of a job, in order; none if a marker is missing, or a file has another size."""
    shards = []
    for number in range(done.shard.hosts):
        other = DoneShard.read(output / named(SUCCESS, Shard(number, done.shard.hosts)))
        if other is None or other.job != done.job:
            return []
        if not all(path.exists() and path.stat().st_size == state.bytes for path, state in other.files(output).items()):
            return []
        shards.append(other)
    return shards


def merge(output: Path) -> tuple[Path, int]:
    """Make one prediction file, and one of the embeddings, of the files of all shards, with rows in the data's order.

    Args:
        output: The output folder of the shards.

    Returns:
        The prediction file, and its number of rows.

    Raises:
        UsageError: Not all shards are done, or they are of different jobs.
        DataError: The prediction file of a shard is damaged, or was changed.
        OutputInUseError: Another run writes into the folder.
        SinkError: The file cannot be written.
    """
    done_shards(output)  # before something is written
    work = WorkFolder(output)
    work.check_is_plain_folder()
    with work.held() as lock:
        shards = [each for each in done_shards(output) if each.output]
        _require_whole(output, shards)
        sink = Sink(output, lock=lock)
        try:
            path = _write(sink, shards)
        finally:
            for temporary in sink.temporaries:
                with suppress(OSError):
                    temporary.unlink()
        rows = sum(sum(each.rows) for each in shards)
        with writing(output):
            record = record_of_shards(output, shards, path.name)
            if record and shards[0].embeddings is not None:
                record["embeddings"] = sink.embeddings.name
            Markers(output).clear()
            Markers(output).succeed(record)
    return path, rows


def record_of_shards(output: Path, shards: Sequence[DoneShard], name: str) -> dict[str, Any] | None:
    """Return one run record of the records of all shards; None if a shard has none, or a damaged one.

    Counts and statistics are sums. The scores over the order of the rows are left out: files of several hosts follow
    each other in the merged file. What is not the same in all shards is that of the first one.

    Args:
        output: The output folder.
        shards: The shards that have a prediction file, in order.
        name: Name of the merged prediction file.
    """
    records = [read_record(output / named(RECORD, each.shard)) for each in shards]
    for each, record in zip(shards, records, strict=True):
        if why_unusable(record) or (record["output"], record["rows"]) != (each.output, sum(each.rows)):
            return None
    if any(frame_of(record["statistics"]) != frame_of(records[0]["statistics"]) for record in records):
        return None
    rows = sum(record["rows"] for record in records)
    counts, times, attempts = Counter[str](), Counter[str](), list[dict[str, Any]]()
    for record in records:
        counts.update(record["counts"])
        times.update(record["profile"] or {})
        attempts += record["attempts"]
    settings = {**records[0]["settings"], "shard": None}
    sums = {"rows": rows, "windows": sum(r["windows"] for r in records), "counts": dict(counts), "profile": dict(times)}
    return {
        **records[0],
        **sums,
        "settings": settings,
        "attempts": attempts,
        "seconds": max(record["seconds"] for record in records),
        "finished": max(record["finished"] for record in records),
        "output": name,
        "statistics": merged_records([record["statistics"] for record in records], _places(shards)),
    }


def _places(shards: Sequence[DoneShard]) -> list[Callable[[int], int]]:
    """Return, for each shard, a function from the position of a row in the shard to that in the merged file."""
    begins: list[list[int]] = [[] for _ in shards]
    shifts: list[list[int]] = [[] for _ in shards]
    lengths, total = [0] * len(shards), 0
    for number, rows in _in_order(shards):
        begins[number].append(lengths[number])
        shifts[number].append(total - lengths[number])
        lengths[number] += rows
        total += rows
    return [partial(_place, *pair) for pair in zip(begins, shifts, strict=True)]


def _place(begins: Sequence[int], shifts: Sequence[int], row: int) -> int:
    return row + shifts[bisect_right(begins, row) - 1]


def done_shards(output: Path) -> list[DoneShard]:
    """Return the shards of an output folder, in order.

    Raises:
        UsageError: Not all shards are done, or they are of different jobs.
    """
    if not output.is_dir():
        raise UsageError("there is no such folder", where=str(output), fix="give the output folder of the shards")
    found = {done.shard.number: done for path in output.glob(f"{SUCCESS}-*") if (done := DoneShard.read(path))}
    if not found:
        what = "no shard is done in this folder"
        raise UsageError(what, where=str(output), fix="run the job with --shard I/N for each I from 0 to N-1")
    last = max(found.values(), key=lambda done: done.finished)
    hosts, problems = last.shard.hosts, []
    for number in range(hosts):
        if number not in found:
            failure = output / named(FAILURE, Shard(number, hosts))
            said = f": {failure.read_text(errors='replace').strip()}" if failure.exists() else ""
            problems.append(f"shard {number}/{hosts} is not done{said}")
    for number, done in sorted(found.items()):
        if done.job != last.job:
            why = "is of another job: other files, another artifact or settings"
            problems.append(
                f"shard {done.shard} {why}" + (f"; remove {named(SUCCESS, done.shard)}" * (number >= hosts))
            )
    if not any(done.output for done in found.values()):
        raise UsageError("no shard has a table: no host has data", where=str(output), fix="check the path of the data")
    if problems:
        what = f"the {hosts} shards cannot be merged: {len(problems)} are not done, or of another job"
        raise UsageError(what, where=str(output), details=problems, fix="run these shards again, then merge")
    return [found[number] for number in range(hosts)]


def _require_whole(output: Path, shards: Sequence[DoneShard]) -> None:
    """Check that the prediction file of each shard has the bytes that its host wrote.

    Raises:
        DataError: One has others, or is gone; ``_SUCCESS`` of the job is removed.
    """
    for each, (path, state) in ((done, file) for done in shards for file in done.files(output).items()):
        why = ""
        try:
            if path.stat().st_size != state.bytes or FileState.of(path) != state:
                why = "was changed after the shard was done"
        except OSError as error:
            why = f"cannot be read: {error.strerror or error}"
        if why:
            with writing(output):
                (output / SUCCESS).unlink(missing_ok=True)
            fix = f"run shard {each.shard} again, then merge"
            raise DataError(f"the predictions of shard {each.shard}: the file {why}", where=str(path), fix=fix)


def _write(sink: Sink, shards: Sequence[DoneShard]) -> Path:
    """Write the prediction file of all shards, and that of the embeddings if they have any; return the former."""
    sources, schema = opened_shards(sink.folder, shards)
    found, vectors = [(sources, schema)], None
    if shards[0].embeddings is not None:
        found.append(_opened([Sink(sink.folder, shard=each.shard).embeddings for each in shards]))
        vectors = found[1][1]
    with sink.new_files(schema, sources[0].output_format, vectors) as writers:
        for writer, (opened, types) in zip(writers, found, strict=True):
            with closing(rows_of_shards(shards, [source.typed(types) for source in opened], types.names)) as tables:
                for table in tables:
                    writer.write(table)
                    signals.check()
    return sink.path(sources[0].output_format)


def rows_of_shards(
    shards: Sequence[DoneShard], sources: Sequence[TableSource], columns: Sequence[str]
) -> Generator[pa.Table, None, None]:
    """Read some columns of the prediction files of shards, with the rows in the order of the data.

    Args:
        shards: The shards that have a prediction file, in order.
        sources: Their prediction files.
        columns: Names of the columns.

    Raises:
        DataError: A file has fewer rows than its marker says, or cannot be read.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(_Rows(source, columns))) for source in sources]
        for number, rows in _in_order(shards):
            yield from readers[number].take(rows)


def opened_shards(output: Path, shards: Sequence[DoneShard]) -> tuple[list[TableSource], pa.Schema]:
    """Open the prediction files of shards; return them with the types that the columns have in one file of all.

    The types are those that one run over the data of all hosts would have. Where that is an error, so it is here: no
    value becomes one of another type.

    Raises:
        DataError: They have different formats, columns or types.
    """
    return _opened([output / each.output for each in shards if each.output])


def _opened(paths: Sequence[Path]) -> tuple[list[TableSource], pa.Schema]:
    sources = [TableSource.open(path, partitions=False) for path in paths]
    kinds = [(source.files[0], {field.name: field.type for field in source.schemas[0]}) for source in sources]
    columns = sources[0].columns if sources else ()
    for source in sources:
        if source.format != sources[0].format or set(source.columns) != set(columns):
            what = f"another format or other columns than {sources[0].files[0]}"
            fix = "give all hosts data of one format with the same columns, or set --output-format and --keep-columns"
            raise DataError(what, where=str(source.files[0]), fix=fix)
    try:
        return sources, pa.schema([(name, merged_type(name, kinds, convert=False)) for name in columns])
    except DataError as error:
        error.fix = "give all hosts data with one type for this column, or set --output-format csv"
        raise


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

    def __init__(self, source: TableSource, columns: Sequence[str]) -> None:
        self._path = source.files[0]
        self._windows = source.windows(columns)
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
                    what = f"{rows:,} rows that the marker of the shard names are not in the file"
                    raise DataError(what, where=str(self._path), fix="run the shard again, then merge")
                self._rest = window.table
            table, self._rest = self._rest.slice(0, rows), self._rest.slice(rows)
            rows -= len(table)
            yield table

    def close(self) -> None:
        """Close the file."""
        self._windows.close()
