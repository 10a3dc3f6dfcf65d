"""Finding splits, the parts of a table that processes read by themselves, and handing out the work of a run.

Where a window begins follows from the row groups of Parquet files, and from the ends of the rows of plain CSV and TSV
files, which one fast scan finds. No cell is parsed for that. A file that is compressed, translated or read line by line
has no such places: one reader reads it and hands its windows on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bsm_core.tables.data_files import DELIMITERS, codec_of
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.headers import first_row, reading
from bsm_core.tables.formats.row_ends import RowEnds
from bsm_core.tables.parquet import row_group_sizes
from bsm_core.tables.read import TableSource
from bsm_core.tables.windows import Position, Split, Window, first_left

Ends: TypeAlias = npt.NDArray[np.int64] | range
"""Positions in a file after each row of a block; a range where the positions are numbers of rows."""

_BLOCK_BYTES = 1 << 20
"""Bytes of text of which the windows that begin there are one split: to open a file costs about a millisecond."""
_GROUP_ROWS = 1 << 16
"""Rows from which on row groups are a split: to open a file with many row groups costs several milliseconds."""
_MOST_ROWS = 1 << 20
"""Rows above which a row group is several splits, which is rare: each reads the rows before it in the group too."""
_HELD_BACK = 64
"""Windows for each consumer that are held back even if they are more than half of the table."""


class _Found(NamedTuple):
    """A window that was found.

    Attributes:
        number: Index of the window.
        start, end, last: See :class:`bsm_core.tables.windows.Split`.
        block: Number of the block of the table in which the window begins.
    """

    number: int
    start: Position
    end: Position
    last: bool
    block: int


def can_split(source: TableSource) -> bool:
    """Return whether windows can be found without reading the rows: in Parquet, and in text that is read as it is."""
    if source.rowless or source.format == "parquet":
        return not source.rowless
    as_it_is = source.format in DELIMITERS and not source.dialect.translated and source.on_bad_line == "fail"
    return as_it_is and not any(map(codec_of, source.files))


def work_of(
    source: TableSource,
    columns: Sequence[str],
    *,
    rows: int,
    done: Mapping[int, Position | None],
    consumers: int,
) -> Generator[Split | Window, None, None]:
    """Yield the work of a run, in order: splits to read, and windows that were read here.

    The last windows are read here and yielded one by one, so that all consumers end together: as many as a split has,
    for each consumer. If these are more than half of the table, as with few and large row groups, it is half of it, so
    that this process does not become the reader of a large table.

    Args:
        source: The table.
        columns, rows, done: See :meth:`bsm_core.tables.read.TableSource.windows`.
        consumers: Number of processes that do the work.

    Raises:
        DataError: See :meth:`bsm_core.tables.read.TableSource.windows`.
    """
    source = source.with_checked(columns, done)
    if not can_split(source):
        with closing(source.windows(columns, rows=rows, done=done)) as windows:
            yield from windows
        return
    held, count, found, largest = deque[list[_Found]](), 0, 0, 0
    with closing(_runs(source, rows, done)) as runs:
        for run in runs:
            held.append(run)
            count, found, largest = count + len(run), found + len(run), max(largest, len(run))
            most = min(consumers * largest, max(consumers * _HELD_BACK, found // 2))
            while count - len(held[0]) >= most:
                count -= len(held[0])
                yield _split(held.popleft())
    for run in held:
        whole = max(0, min(count - most, len(run)))  # what is more than the windows to hold back
        count -= len(run)
        if whole:
            yield _split(run[:whole])
        if len(run) - whole == 1:
            yield _split(run[whole:])
        elif rest := run[whole:]:
            with closing(source.windows_of(_split(rest), columns, rows=rows)) as windows:
                yield from windows


def splits_of(
    source: TableSource, rows: int, done: Mapping[int, Position | None] | None = None
) -> Generator[Split, None, None]:
    """Find the splits of a table, each as soon as it is known where it ends.

    Args:
        source: A table that :func:`can_split`.
        rows: Number of rows of a window.
        done: Windows to leave out, see :meth:`bsm_core.tables.read.TableSource.windows`.

    Raises:
        DataError: A file cannot be read.
    """
    with closing(_runs(source, rows, done or {})) as runs:
        yield from map(_split, runs)


def _runs(source: TableSource, rows: int, done: Mapping[int, Position | None]) -> Generator[list[_Found], None, None]:
    """Find the windows of each split, see :func:`splits_of`."""
    index, start = first_left(done)
    while start.file < len(source.files):
        held: list[_Found] = []
        following = index, Position(len(source.files), 0)
        with closing(_blocks(source, start)) as blocks:
            for found in _windows(blocks, rows, index, start, len(source.files)):
                if held and (found.block != held[0].block or found.number in done):
                    yield held
                    held = []
                if found.number not in done:
                    held.append(found)
                if done.get(found.number + 1) is not None:
                    following = first_left(done, found.number + 1)
                    break
        if held:
            yield held
        index, start = following


def _split(found: Sequence[_Found]) -> Split:
    return Split(found[0].number, len(found), found[0].start, found[-1].end, found[-1].last)


def _windows(
    blocks: Iterator[tuple[int, Ends]], rows: int, index: int, start: Position, files: int
) -> Iterator[_Found]:
    """Find windows in the blocks of a table.

    Args:
        blocks: Blocks, each as the number of its file and the position in it after each row.
        rows: Number of rows of a window.
        index: Number of the first window.
        start: Where it begins.
        files: Number of files of the table.
    """
    count, began, end = 0, 0, None
    for block, (file, ends) in enumerate(blocks):
        used = 0
        while used < len(ends):
            if end is not None:  # only now it is known that a row follows the window, so that it is not the last
                yield _Found(index, start, end, False, began)
                index, start, count, end = index + 1, end, 0, None
            began = began if count else block
            more = min(rows - count, len(ends) - used)
            used, count = used + more, count + more
            if count == rows:
                end = Position(file, int(ends[used - 1]))
    yield _Found(index, start, Position(files, 0), True, began)


def _blocks(source: TableSource, start: Position) -> Generator[tuple[int, Ends], None, None]:
    """Yield the blocks of a table from a position on, each as the number of its file and the positions after rows."""
    for number in range(start.file, len(source.files)):
        file, offset = source.files[number], start.offset if number == start.file else 0
        if source.format == "parquet":
            blocks: Iterator[Ends] = _row_groups(row_group_sizes(file), offset)
        else:
            blocks = row_ends(file, source.dialect, offset)
        for ends in blocks:
            yield number, ends


def _row_groups(sizes: Sequence[int], first: int) -> Iterator[Ends]:
    """Yield the numbers after the rows of row groups from a row on: of small ones together, of large ones in pieces."""
    begin, end = first, 0
    for size in sizes:
        before, end = end, end + size
        if size > _MOST_ROWS:
            if before > begin:
                yield range(begin + 1, before + 1)
                begin = before
            step = -(-size // -(-size // _MOST_ROWS))
            while end - begin > step:
                yield range(begin + 1, begin + step + 1)
                begin += step
        if end - begin >= _GROUP_ROWS:
            yield range(begin + 1, end + 1)
            begin = end
    yield range(begin + 1, max(begin, end) + 1)


def row_ends(path: Path, dialect: Dialect, offset: int = 0) -> Iterator[Ends]:
    """Find the ends of the rows of a plain text file, block by block.

    Args:
        path: The file.
        dialect: Dialect of the file, with its delimiter.
        offset: Byte at which a row begins. At 0, the header is no row.

    Yields:
        The byte after each row of a block, int64 ``[rows]``.

    Raises:
        DataError: The file cannot be read.
    """
    begin = offset or first_row(path, dialect)[0]
    found = RowEnds(dialect.mark, begin, header=not offset and dialect.columns is None)
    with reading(path), path.open("rb", buffering=0) as file:
        file.seek(begin)
        while block := file.read(_BLOCK_BYTES):
            found.feed(block)
            yield found.found()
        size = file.tell()
        found.feed(b"\rx\n")  # as if a row followed, whose end is dropped: the last one may have no line break
        last = found.found()
        yield last[last <= size + 1]
