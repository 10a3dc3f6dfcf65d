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

from bsm_core.runtime.durable import in_parallel
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
_HERE = 0.1
"""Largest share of the windows of a Parquet table that are read here only to let all consumers end together."""
_MOST_READ = 0.6
"""Largest share of a Parquet table that a consumer reads to score as much as each of the others."""
_MOST_FILES = 200
"""Number of Parquet files from which on their rows are not counted before they are read."""
_MOST_PIECES = 8
"""Number of consumers that may share a row group: each decodes it from its beginning to the end of its piece."""
_WHOLE = 0.8
"""Least share of the consumers that have work, on average, while the last row groups are scored."""


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
    if source.rowless or source.limit is not None:
        return False
    if source.format == "parquet":
        return True
    as_it_is = source.format in DELIMITERS and not source.dialect.translated and source.on_bad_line == "fail"
    return as_it_is and not any(map(codec_of, source.files))


def known_rows(source: TableSource) -> int | None:
    """Return the number of rows of a Parquet table, which its metadata say; None of other tables, or of many files."""
    if source.rowless:
        return 0
    if source.format != "parquet" or len(source.files) > _MOST_FILES:
        return None
    rows = sum(sum(sizes) for sizes in in_parallel(row_group_sizes, source.files))
    return rows if source.limit is None else min(rows, source.limit)


def work_of(
    source: TableSource,
    columns: Sequence[str],
    *,
    rows: int,
    done: Mapping[int, Position | None],
    consumers: int,
) -> Generator[Split | Window, None, None]:
    """Yield the work of a run: splits to read, and windows that were read here.

    At the end come smaller pieces, so that all consumers end together. Of text, these are single windows as splits. Of
    Parquet, :func:`_last_of_parquet` says who reads the last row groups.

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
    held, count, runs, total = deque[list[_Found]](), 0, 0, 0
    with closing(_runs(source, rows, done)) as found:
        for run in found:
            held.append(run)
            runs, total, count = runs + 1, total + len(run), count + len(run)
            # While a consumer scores the first of these runs, the others must have as much to do.
            while len(held) > consumers and count >= consumers * len(held[0]):
                count -= len(held[0])
                yield _split(held.popleft())
    if source.format == "parquet":
        pieces, here = _last_of_parquet(list(held), runs, total, consumers)
    else:
        pieces, here = [[window] for run in held for window in run], []
    yield from map(_split, pieces)
    for piece in here:
        with closing(source.windows_of(_split(piece), columns, rows=rows)) as read:
            yield from read


def _last_of_parquet(
    held: Sequence[Sequence[_Found]], runs: int, windows: int, consumers: int
) -> tuple[list[Sequence[_Found]], list[Sequence[_Found]]]:
    """Divide the last row groups of a table so that all consumers end together.

    To read the end of a row group, it has to be decoded from its beginning. So each consumer gets whole row groups as
    long as there are enough for all. The row groups that are left then are cut into pieces, or are read here: if they
    are few, or if a consumer would have to read too much for its piece. Of the others, the first windows are read here:
    this costs no decoding, and whoever is done early takes them.

    Args:
        held: The last runs, at least as many as there are consumers, or all.
        runs, windows: Number of the runs and of the windows of the table.
        consumers: Number of consumers.

    Returns:
        The pieces that consumers read, and those that this process reads for them.
    """
    left = runs if runs < consumers else runs % consumers
    whole, rest = held[: len(held) - left], held[len(held) - left :]
    shared, here = list[tuple[Sequence[_Found], int]](), list[Sequence[_Found]]()
    for some, pieces in ((whole, 1), (rest, _pieces_of(len(rest), consumers))):
        size = sum(map(len, some))
        for run in some:
            count = pieces * max(1, round(len(run) * min(len(some), consumers) / size))
            too_much = count > _MOST_PIECES or len(run) / windows > _MOST_READ - 1 / consumers
            if count > 1 and (too_much or size <= _HERE * windows):
                here.append(run)
            else:
                shared.append((run, count))
    more = int(_HERE * windows) - sum(map(len, here)) if consumers > 1 else 0
    divided: list[Sequence[_Found]] = []
    for run, count in shared:
        begin = max(0, min(more // len(shared), len(run) // 2))
        here += [run[:begin]] if begin else []
        size = -(-(len(run) - begin) // count)
        divided += [run[at : at + size] for at in range(begin, len(run), size)]
    return divided, sorted(here, key=lambda run: run[0].number)


def _pieces_of(runs: int, consumers: int) -> int:
    """Return into how many pieces to cut each of some runs so that few consumers wait; above the most if many would."""
    for pieces in range(1, _MOST_PIECES + 1):
        rounds = -(-runs * pieces // consumers)
        if runs * pieces >= _WHOLE * rounds * consumers:
            return pieces
    return _MOST_PIECES + 1


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
    """Yield the numbers after the rows of row groups from a row on: of small ones together, of large ones alone."""
    begin, end = first, 0
    for size in sizes:
        before, end = end, end + size
        if size >= _GROUP_ROWS and before > begin:
            yield range(begin + 1, before + 1)
            begin = before
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
