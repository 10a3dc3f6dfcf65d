"""Finding the byte at which each row of a CSV or TSV file ends, so that a later run can begin to read there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_QUOTE, _LF, _CR, _BACKSLASH = b'"\n\r\\'
_UNKNOWN = -1
_NEAR = 64
"""Number of quotes to look at one by one after a quote in the middle of a cell, before many are looked at together."""


class PlacesInRows:
    """Positions of cells in a text file, counted by row.

    One thread may call :meth:`add` while another calls :meth:`take`: pyarrow reads ahead.
    """

    def __init__(self) -> None:
        self._found: list[int] = []

    def add(self, positions: Iterable[int]) -> None:
        """Add positions in the file, in order."""
        self._found.extend(positions)

    def take(self, ends: Positions) -> Positions:
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
    r"""Ends of the rows of a text file that is read block by block.

    Rows are those of pyarrow's CSV reader. A quote opens a quoted cell only at the beginning of the cell, and line
    breaks in a quoted cell belong to the cell. ``\n``, ``\r\n`` and ``\r`` end a row. Empty lines are no rows.

    One thread may call :meth:`feed` while another calls :meth:`take`: pyarrow reads ahead.

    Args:
        delimiter: The character between two cells.
        offset: Position in the file of the first byte, after a byte order mark.
        header: Whether the first row is the header, which does not count.
        odd: Whether to look for ``escapes`` and ``loose`` too.

    Attributes:
        escapes: Quotes after a backslash that end the quotes of a cell before its end, as in ``"a \"b"``. In files of
            Spark, such a quote belongs to the cell. For a reader that does not know the escape character, the cell has
            another text, or the row another number of cells.
        loose: Other quotes that end the quotes of a cell before its end, as the second one of ``"a "b" c"`` does.
    """

    def __init__(self, delimiter: str, offset: int = 0, *, header: bool = True, odd: bool = False) -> None:
        self._before_cell = np.zeros(256, bool)
        self._before_cell[[ord(delimiter), _LF, _CR]] = True
        self._cell_or_quote = self._before_cell.copy()
        self._cell_or_quote[_QUOTE] = True
        self._skip = int(header)
        self._at = self._row_began = offset
        self._rest = b"\n"  # the last byte that was scanned, and the bytes that wait for the next block
        self._quoted = False
        self._found: list[Positions] = []
        self._lost = False
        self._flags = np.empty((2, 0), bool)  # kept: new memory for each block costs more than the search
        self._seeks_odd = odd
        self.escapes, self.loose = PlacesInRows(), PlacesInRows()

    def feed(self, block: bytes) -> None:
        """Scan the next bytes of the file. The last byte of the file must be a line break."""
        text = self._rest + block
        # The meaning of a quote or of \r depends on the byte after it, so such bytes wait for the next block.
        end = max(1, len(text.rstrip(b'"\r')))
        data = np.frombuffer(text, np.uint8)
        at = self._marks(text, data[:end])
        marks = data[at]
        numbers = np.flatnonzero(marks != _QUOTE)  # of the marks that are \n or \r
        breaks = at[numbers]
        ends_row = np.ones(len(breaks), bool)
        if b"\r" in text:
            is_cr = np.flatnonzero(marks[numbers] == _CR)
            ends_row[is_cr] = data[breaks[is_cr] + 1] != _LF  # the last byte that is scanned is no \r
        if self._quoted or len(breaks) < len(at):
            quotes = np.compress(marks == _QUOTE, at)
            before = numbers - np.arange(len(numbers))  # quotes before each \n or \r
            if ordinary := self._ordinary(data, quotes):
                before -= np.searchsorted(quotes[ordinary], breaks)
                quotes = np.delete(quotes, ordinary)
            ends_row &= before % 2 == self._quoted
            if self._seeks_odd:
                self._find_odd(data, quotes)
            self._quoted ^= bool(len(quotes) % 2)
        ends = breaks[ends_row] + 1
        self._add(data, ends)
        self._at += end - 1
        self._rest = text[end - 1 :]

    def found(self) -> Positions:
        """Return the position after each row whose end has been found, int64 ``[rows]``, and forget these rows."""
        return self.take(sum(map(len, self._found)))

    def take(self, rows: int) -> Positions:
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

    def _marks(self, text: bytes, data: npt.NDArray[np.uint8]) -> Positions:
        r"""Return the positions of all quotes, ``\n`` and ``\r`` from the second byte on."""
        if self._flags.shape[1] < len(data):
            self._flags = np.empty((2, len(data)), bool)
        is_mark, is_this = self._flags[:, : len(data)]
        np.equal(data, _LF, out=is_mark)
        for byte in (_QUOTE, _CR):
            if byte in text:
                is_mark |= np.equal(data, byte, out=is_this)
        is_mark[0] = False
        return np.flatnonzero(is_mark)

    def _find_odd(self, data: npt.NDArray[np.uint8], quotes: Positions) -> None:
        """Find the quotes of ``escapes`` and ``loose`` among those that are no ordinary characters."""
        # Every second quote ends the quotes of a cell, but for the first of two together, which are one in the cell.
        closing = quotes[not self._quoted :: 2]
        early = closing[~self._cell_or_quote[data[closing + 1]]]
        escaped = data[early - 1] == _BACKSLASH
        for places, found in ((self.escapes, early[escaped]), (self.loose, early[~escaped])):
            places.add((found + (self._at - 1)).tolist())

    def _ordinary(self, data: npt.NDArray[np.uint8], quotes: Positions) -> list[int]:
        """Return which quotes are ordinary characters, as they neither begin nor end nor are in a quoted cell.

        Many quotes are looked at together, as long as each one that opens a quoted cell stands where it may.
        """
        found: list[int] = []
        begin, size, quoted = 0, len(quotes), self._quoted
        while begin < len(quotes):
            some = quotes[begin : begin + size]
            wrong = ~self._cell_or_quote[data[some[quoted::2] - 1]]
            if not wrong.any():
                begin, size, quoted = begin + len(some), 2 * size, quoted ^ bool(len(some) % 2)
                continue
            begin, size = begin + quoted + 2 * int(wrong.argmax()), 4 * _NEAR
            begin, quoted = self._one_by_one(data, quotes, begin, found)
        return found

    def _one_by_one(
        self, data: npt.NDArray[np.uint8], quotes: Positions, begin: int, found: list[int]
    ) -> tuple[int, bool]:
        """Find ordinary quotes from an ordinary one on, outside of a quoted cell, and up to one that is not ordinary.

        Returns:
            Number of the next quote, and whether a quoted cell is open there.
        """
        quoted = closed = False
        while begin < len(quotes) and not (quoted or closed):
            for before in data[quotes[begin : begin + _NEAR] - 1].tolist():
                if quoted:
                    quoted, closed = False, True
                elif self._before_cell[before] or (closed and before == _QUOTE):
                    quoted = True
                else:
                    found.append(begin)
                    closed = False
                begin += 1
        return begin, quoted

    def _add(self, data: npt.NDArray[np.uint8], ends: Positions) -> None:
        """Keep the ends of rows; drop those of empty lines and of the header."""
        positions = ends + (self._at - 1)
        lengths = np.diff(positions, prepend=self._row_began)
        if len(positions):
            self._row_began = int(positions[-1])
        if len(lengths) and lengths.min() <= 2:
            line_feed_only = lengths == 1
            both = (lengths == 2) & (data[ends - 1] == _LF) & (data[np.maximum(ends - 2, 0)] == _CR)
            positions = positions[~(line_feed_only | both)]
        self._found.append(positions[self._skip :])
        self._skip = max(0, self._skip - len(positions))
