"""Finding the byte at which each row of a CSV or TSV file ends, so that a later run can begin to read there."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

_QUOTE, _LF, _CR, _BACKSLASH = b'"\n\r\\'
_UNKNOWN = -1


class PlacesInRows:
    """Positions of cells in a text file, counted by row.

    One thread may call :meth:`add` while another calls :meth:`take`: pyarrow reads ahead.
    """

    def __init__(self) -> None:
        self._found: list[int] = []

    def add(self, positions: Iterable[int]) -> None:
        """Add positions in the file, in order."""
        self._found.extend(positions)

    def take(self, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of positions in each of the next rows, and forget these positions.

        Args:
            ends: Position after each row; -1 where it is unknown.
        """
        counts, found = np.zeros(len(ends), np.int64), self._found[:]
        if found and len(ends):
            known = bool((ends >= 0).all())
            rows = np.searchsorted(ends, found, side="right") if known else np.zeros(len(found), np.int64)
            here = rows < len(ends)
            np.add.at(counts, rows[here], 1)
            self._found[: len(found)] = np.array(found)[~here].tolist()  # not a new list: add() may have appended
        return counts


class RowEnds:
    """Ends of the rows of a text file that is read block by block.

    Rows are those of pyarrow's CSV reader. A quote opens a quoted cell only at the beginning of the cell, and line
    breaks in a quoted cell belong to the cell. ``\\n``, ``\\r\\n`` and ``\\r`` end a row. Empty lines are no rows.

    One thread may call :meth:`feed` while another calls :meth:`take`: pyarrow reads ahead.

    Args:
        delimiter: The character between two cells.
        offset: Position in the file of the first byte, after a byte order mark.
        header: Whether the first row is the header, which does not count.

    Attributes:
        loose: Quotes that end the quotes of a cell before its end, as the second one of ``"a "b" c"`` does. Those
            after a backslash are left out: :class:`bsm_core.tables.formats.plain_text.LikelyEscapes` finds them.
    """

    def __init__(self, delimiter: str, offset: int = 0, *, header: bool = True) -> None:
        self._special = re.compile(rf'["\r\n{re.escape(delimiter)}]'.encode())
        self._before_cell = np.zeros(256, bool)
        self._before_cell[[ord(delimiter), _LF, _CR]] = True
        self._after_cell = self._before_cell.copy()
        self._after_cell[_QUOTE] = True
        self.loose = PlacesInRows()
        self._skip = int(header)
        self._at = self._row_began = offset
        self._rest = b"\n"  # the last byte that was scanned, and the bytes that wait for the next block
        self._quoted = False
        self._found: list[npt.NDArray[np.int64]] = []
        self._lost = False
        self._flags = np.empty((2, 0), bool)  # kept: new memory for each block costs more than the search

    def feed(self, block: bytes) -> None:
        """Scan the next bytes of the file. The last byte of the file must be a line break."""
        text = self._rest + block
        # The meaning of a quote or of \r depends on the byte after it, so such bytes wait for the next block.
        end = max(1, len(text.rstrip(b'"\r')))
        quotes, line_ends = self._quotes_and_line_ends(text, end)
        if self._regular(np.frombuffer(text, np.uint8), quotes):
            ends = line_ends[(np.searchsorted(quotes, line_ends) + self._quoted) % 2 == 0] + 1
            self._quoted ^= bool(len(quotes) % 2)
        else:
            ends = self._one_by_one(text, end)
        self._add(text, ends)
        self._at += end - 1
        self._rest = text[end - 1 :]

    def found(self) -> npt.NDArray[np.int64]:
        """Return the position after each row whose end has been found, int64 ``[rows]``, and forget these rows."""
        return self.take(sum(map(len, self._found)))

    def take(self, rows: int) -> npt.NDArray[np.int64]:
        """Return the position after each of the next rows, and forget these rows.

        Args:
            rows: Number of rows.

        Returns:
            int64 ``[rows]``. If the ends of fewer rows have been found, it is unknown which rows those are. Then all
            values are -1, from this call on.
        """
        blocks = self._found[:]
        found = np.concatenate([*blocks, np.empty(0, np.int64)])
        self._found[: len(blocks)] = [found[rows:]]  # not a new list: feed() may have appended to this one by now
        self._lost |= len(found) < rows
        return np.full(rows, _UNKNOWN) if self._lost else found[:rows]

    def _quotes_and_line_ends(self, text: bytes, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the positions of the quotes, and those of the last byte of each line break."""
        data = np.frombuffer(text, np.uint8)
        if self._flags.shape[1] < end:
            self._flags = np.empty((2, end), bool)
        is_mark, is_this = self._flags[:, :end]
        np.equal(data[:end], _LF, out=is_mark)
        for byte in (_QUOTE, _CR):
            if byte in text:
                is_mark |= np.equal(data[:end], byte, out=is_this)
        is_mark[0] = False
        at = np.flatnonzero(is_mark)
        marks = data[at]
        ends_line = marks != _QUOTE
        is_cr = marks == _CR
        ends_line[is_cr] = data[at[is_cr] + 1] != _LF  # the last byte that is scanned is no \r
        return at[marks == _QUOTE], at[ends_line]

    def _regular(self, text: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64]) -> bool:
        """Return whether quotes open and close alternately, at the beginnings and ends of cells and as ``""``."""
        opening, closing = quotes[self._quoted :: 2], quotes[not self._quoted :: 2]
        before = text[opening - 1]
        opens = self._before_cell[before] | (before == _QUOTE)
        return bool(opens.all() and self._after_cell[text[closing + 1]].all())

    def _one_by_one(self, text: bytes, end: int) -> npt.NDArray[np.int64]:
        """Return the positions after the rows in a block with a quote in the middle of a cell."""
        ends, loose = list[int](), list[int]()
        escaped = -1
        for match in self._special.finditer(text, 1, end):
            at = match.start()
            byte, following = text[at], text[at + 1 : at + 2]
            if byte == _QUOTE:
                if self._quoted and following == b'"' and at != escaped:
                    escaped = at + 1
                elif self._quoted and at != escaped:
                    self._quoted = False
                    if not self._after_cell[text[at + 1]] and text[at - 1] != _BACKSLASH:
                        loose.append(self._at - 1 + at)
                elif self._quoted:
                    pass  # the second of two quotes that stand for one
                else:
                    self._quoted = bool(self._before_cell[text[at - 1]])
            elif not self._quoted and (byte == _LF or (byte == _CR and following != b"\n")):
                ends.append(at + 1)
        self.loose.add(loose)
        return np.array(ends, np.int64)

    def _add(self, text: bytes, ends: npt.NDArray[np.int64]) -> None:
        """Keep the ends of rows; drop those of empty lines and of the header."""
        positions = ends + (self._at - 1)
        lengths = np.diff(positions, prepend=self._row_began)
        if len(positions):
            self._row_began = int(positions[-1])
        if len(lengths) and lengths.min() <= 2:
            marks = np.frombuffer(text, np.uint8)
            line_feed_only = lengths == 1
            both = (lengths == 2) & (marks[ends - 1] == _LF) & (marks[np.maximum(ends - 2, 0)] == _CR)
            positions = positions[~(line_feed_only | both)]
        self._found.append(positions[self._skip :])
        self._skip = max(0, self._skip - len(positions))
