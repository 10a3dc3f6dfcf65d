"""Lines of a text file that cannot be read as rows: finding them with the ``csv`` module, and reading the rest."""

from __future__ import annotations

import csv
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SKIP = {"on_bad_line": "skip"}
"""Setting that errors about lines name; see :class:`~bsm_core.errors.BSMError`."""
_field_size_limit = threading.Lock()
SHOWN = 200
"""Characters of a line that cannot be read that are kept."""


@dataclass(frozen=True)
class BadLine:
    """Row that cannot be read, or the first line of such a row, which is left out.

    Attributes:
        where: File and line number of the line.
        reason: Why the line cannot be read.
        text: Beginning of the line.
        start, stop: Positions of the line's first byte and of the byte after it, in the decompressed file.
    """

    where: str
    reason: str
    text: str
    start: int
    stop: int


class _Feed:
    """Iterator over lines that remembers those of the current row, and can yield lines again.

    Attributes:
        row: Lines that were yielded since :meth:`next_row`.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.row.append(line)
        return line

    def next_row(self) -> list[str]:
        """Return the lines of the current row, and begin the next row."""
        row, self.row = self.row, []
        return row

    def again(self, lines: list[str]) -> None:
        """Yield lines again, before all others."""
        self._again.extendleft(reversed(lines))


def find_bad_lines(
    lines: Iterable[str],
    fault: Callable[[list[str], list[str]], tuple[str, bool] | None],
    delimiter: str,
    path: str,
    longest: int,
    line: int = 1,
    start: int = 0,
) -> Iterator[BadLine]:
    """Yield the lines that have to be left out so that all other lines are rows.

    A row with a fault in its quotes loses its first line alone: the next line is taken for the beginning of a row.

    Args:
        lines: Lines of the file, in which bytes that are not UTF-8 are surrogates.
        fault: Function of the cells and the lines of a row. Returns the reason why the row cannot be read, and whether
            its quotes are the reason; None for a row that can be read.
        delimiter: The character between two cells.
        path: Name of the file.
        longest: Largest number of characters of a cell.
        line: Number of the first line.
        start: Position of the first line in the file.
    """
    feed = _Feed(lines)
    while True:
        found = None
        try:
            for cells in csv_rows(csv.reader(feed, delimiter=delimiter), longest):
                if cells and (found := fault(cells, feed.row)):
                    break
                row = feed.next_row()
                line, start = line + len(row), start + byte_size(row)
        except csv.Error as error:
            found = str(error), True
        if found is None:
            return
        (reason, in_quotes), row = found, feed.next_row()
        if in_quotes:
            feed.again(row[1:])
            row = row[:1]
        text = "".join(row)[:SHOWN].encode("utf-8", "surrogateescape").decode(errors="backslashreplace")
        stop = start + byte_size(row)
        yield BadLine(f"{path}, line {line}", reason, text.rstrip("\r\n")[:SHOWN], start, stop)
        line, start = line + len(row), stop


def csv_rows(reader: Iterator[list[str]], longest: int) -> Iterator[list[str]]:
    """Yield the rows of a reader of the csv module, with cells of at most this number of characters."""
    while True:
        with long_cells(longest):
            cells = next(reader, None)
        if cells is None:
            return
        yield cells


@contextmanager
def long_cells(longest: int) -> Iterator[None]:
    """Let the csv module read cells of this number of characters. Its limit holds for the whole process."""
    with _field_size_limit:
        before = csv.field_size_limit(longest)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def byte_size(lines: Iterable[str]) -> int:
    """Return the number of bytes of lines in which bytes that are not UTF-8 are surrogates."""
    return sum(len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape")) for line in lines)


class LeftOut:
    """Bad lines that are left out of the bytes of a file while it is read block by block.

    One thread may call :meth:`keep` while another calls :meth:`take`: pyarrow reads ahead.

    Args:
        bad_lines: The lines, in order.
        offset: Position of the first byte that is read.
    """

    def __init__(self, bad_lines: Iterable[BadLine], offset: int) -> None:
        self._bad_lines = iter(bad_lines)
        self._next = next(self._bad_lines, None)
        self._at = self._kept = offset
        self._cut: list[tuple[int, BadLine]] = []  # each with the position of its place among the bytes that are kept
        self._removed = 0

    def keep(self, block: bytes) -> bytes:
        """Return the next bytes of the file without those of bad lines."""
        begin, end, kept = self._at, self._at + len(block), list[bytes]()
        if self._next is None or self._next.start >= end:
            self._at, self._kept = end, self._kept + len(block)
            return block
        while (bad := self._next) is not None and bad.start < end:
            kept.append(block[begin - self._at : max(bad.start, begin) - self._at])
            if bad.start >= begin:
                self._cut.append((self._kept + sum(map(len, kept)), bad))
            begin = min(bad.stop, end)
            if bad.stop > end:
                break
            self._next = next(self._bad_lines, None)
        kept.append(block[begin - self._at :])
        self._at = end
        self._kept += sum(map(len, kept))
        return b"".join(kept)

    def take(self, ends: npt.NDArray[np.int64], last: bool) -> tuple[npt.NDArray[np.int64], list[tuple[int, BadLine]]]:
        """Return the positions of rows in the file, and the bad lines among the rows; forget these lines.

        Args:
            ends: Position after each row among the bytes that are kept, -1 where it is unknown.
            last: Whether no row follows.

        Returns:
            Position after each row in the file, and each bad line with the number of rows before it.
        """
        cut = self._cut[:]  # keep() may append to it
        places = np.array([place for place, _ in cut], np.int64)
        sizes = np.array([self._removed, *(bad.stop - bad.start for _, bad in cut)], np.int64).cumsum()
        known = ends >= 0
        positions = np.where(known, ends + sizes[np.searchsorted(places, ends, side="left")], ends)
        before = np.searchsorted(ends, places, side="right") if known.all() else np.zeros(len(places), np.int64)
        here = len(places) if last else int((before < len(ends)).sum())
        found = [(int(row), bad) for row, (_, bad) in zip(before[:here], cut[:here], strict=True)]
        self._removed = int(sizes[here])
        del self._cut[:here]
        return positions, found
