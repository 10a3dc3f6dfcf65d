"""The shapes in which a table is read: positions, windows and splits, and cutting rows into windows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bsm_core.tables.bad_lines import BadLine


class Position(NamedTuple):
    """Place between two rows of a table.

    Attributes:
        file: Number of the file, from 0; the number of files at the end of the table.
        offset: Place in the file: a byte (after decompression) of a text file, a row of Parquet.
    """

    file: int
    offset: int


BEGIN = Position(0, 0)
"""Where a table begins."""


@dataclass(frozen=True)
class Window:
    """Consecutive rows of a table.

    Attributes:
        index: Number of the window, from 0.
        start: Position of the first row in the whole table, from 0.
        table: The requested columns, in the requested order. They may be slices of larger buffers.
        last: Whether this is the last window of the table.
        fraction: Share of the input up to the end of this window, 0 to 1; for progress bars. Between places that are
            known, as in compressed files, it is estimated.
        end: Where the next window begins; None if it is unknown.
        bad_lines: Lines that were left out, each with the number of rows of the window that come before it.
        escapes: Number of cells in which a backslash seems to escape a quote.
        loose_quotes: Number of cells in which other text follows the quote that ends their quotes.
        files: Number of rows from each file, as pairs of the number of the file and that of the rows.
    """

    index: int
    start: int
    table: pa.Table
    last: bool
    fraction: float
    end: Position | None = None
    bad_lines: Sequence[tuple[int, BadLine]] = ()
    escapes: int = 0
    loose_quotes: int = 0
    files: Sequence[tuple[int, int]] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields for a pickle, the rows as bytes: a pickled slice would hold all of the larger buffer."""
        content, table = pa.BufferOutputStream(), self.table.unify_dictionaries()
        with pa.ipc.new_stream(content, table.schema) as writer:
            writer.write_table(table)
        return {**vars(self), "table": content.getvalue().to_pybytes()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, table=pa.ipc.open_stream(state["table"]).read_all())


@dataclass(frozen=True)
class Split:
    """Consecutive windows that can be read without the rest of the table.

    Attributes:
        first: Number of the first window.
        windows: Number of windows, at least one.
        start: Where the first window begins.
        end: Where the last window ends, which is where the next one begins.
        last: Whether the last window is the last one of the table.
    """

    first: int
    windows: int
    start: Position
    end: Position
    last: bool


class Piece(NamedTuple):
    """Some rows of a file.

    Attributes:
        table: The rows.
        fraction: See :class:`Window`.
        ends: For each row, int64 ``[rows, 4]``: the position after it, which is the number of the file and the offset
            (-1 where it is unknown), and the numbers of its cells that ``escapes`` and ``loose_quotes`` count.
        bad_lines: Lines that were left out, each with the number of these rows that come before it.
    """

    table: pa.Table
    fraction: float
    ends: npt.NDArray[np.int64]
    bad_lines: Sequence[tuple[int, BadLine]] = ()


def first_left(done: Mapping[int, Position | None], index: int = 0) -> tuple[int, Position]:
    """Return the first window from a number on whose end is not known, and where it begins; 0 begins the table."""
    start = BEGIN
    while (end := done.get(index)) is not None:
        index, start = index + 1, end
    return index, start


def first_rows(pieces: Generator[Piece, None, None], rows: int) -> Generator[Piece, None, None]:
    """Yield pieces up to a number of rows. Lines that were left out after the last row are left out without a word."""
    with closing(pieces):
        for piece in pieces:
            if len(piece.table) >= rows:
                bad_lines = [(at, bad) for at, bad in piece.bad_lines if at < rows]
                yield Piece(piece.table.slice(0, rows), piece.fraction, piece.ends[:rows], bad_lines)
                return
            yield piece
            rows -= len(piece.table)


def cut(
    pieces: Iterator[Piece],
    schema: pa.Schema,
    rows: int,
    index: int,
    end: Position,
    share: Callable[[Position], float | None] = lambda place: None,
    *,
    last: bool = True,
) -> Generator[Window, None, None]:
    """Cut pieces into windows of ``rows`` rows.

    Args:
        pieces: The rows.
        schema: Their columns.
        rows: Number of rows of each window but the last one.
        index: Number of the first window.
        end: Where the last window ends.
        share: Function that returns the share of the input up to a place; None if it is unknown.
        last: Whether the last window is the last one of the table.
    """
    nothing = Piece(pa.Table.from_batches([], schema), 0.0, np.empty((0, 4), np.int64))
    held, count, fraction, before = [nothing], 0, 0.0, 0.0
    for piece in pieces:
        fraction = piece.fraction
        held.append(piece)
        count += len(piece.table)
        if count <= rows:  # a full window is held back until another row arrives: it may be the last one
            continue
        table, _, ends, bad_lines = _joined(held)
        known_at = list(accumulate(len(each.table) for each in held))  # for each piece, the row after it
        fractions = [before, *(each.fraction for each in held[1:])]
        while len(table) > rows:
            read = float(np.interp(known_at[-1] - len(table) + rows, known_at, fractions))
            file, offset = ends[rows - 1, :2].tolist()
            place = Position(file, offset) if offset >= 0 else None
            # Lines after the last row of a window belong to the next one, which begins at them when it is read again.
            here = [(at, bad) for at, bad in bad_lines if at < rows]
            escapes, loose = ends[:rows, 2:].sum(axis=0).tolist()
            files, known = _rows_of_files(ends[:rows]), share(place) if place else None
            before = read if known is None else known
            yield Window(index, index * rows, table.slice(0, rows), False, before, place, here, escapes, loose, files)
            table, ends = table.slice(rows), ends[rows:]
            bad_lines = [(at - rows, bad) for at, bad in bad_lines if at >= rows]
            index += 1
        held, count = [nothing, Piece(table, fraction, ends, bad_lines)], len(table)
    table, _, ends, bad_lines = _joined(held)
    known, (escapes, loose) = 1.0 if last else share(end), ends[:, 2:].sum(axis=0).tolist()
    fraction = fraction if known is None else known
    yield Window(index, index * rows, table, last, fraction, end, bad_lines, escapes, loose, _rows_of_files(ends))


def _rows_of_files(ends: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    files, counts = np.unique(ends[:, 0], return_counts=True)
    return tuple(zip(files.tolist(), counts.tolist(), strict=True))


def _joined(pieces: Sequence[Piece]) -> Piece:
    """Return consecutive pieces as one."""
    bad_lines, before = list[tuple[int, BadLine]](), 0
    for piece in pieces:
        bad_lines += [(before + at, bad) for at, bad in piece.bad_lines]
        before += len(piece.table)
    table = pa.concat_tables([piece.table for piece in pieces])
    return Piece(table, 0.0, np.concatenate([piece.ends for piece in pieces]), bad_lines)
