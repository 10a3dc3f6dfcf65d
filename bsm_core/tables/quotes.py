"""Lone quotes, which would merge rows."""

from __future__ import annotations

import re

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Quotes:
    """Follows the quotes of a text file, block by block.

    Readers of CSV take ``"a" b`` for the cell ``a b``. Where line breaks stand between the two quotes, they most likely
    are lone quotes of two rows, and would merge all rows from one to the other.

    Args:
        delimiter: What stands between two cells, one character.
    """

    def __init__(self, delimiter: str) -> None:
        ends = rf"{delimiter}\r\n"
        within_a_cell = rf'(?<=[^{ends}])"'  # a character like any other
        on_one_line = r'"[^"\r\n]*+(?:""[^"\r\n]*+)*+"(?=[^"])'  # whatever follows
        on_several = rf'"[^"]*+(?:""[^"]*+)*+"(?=[{ends}])'
        self._sound = re.compile(rf'[^"]*+(?:(?:{within_a_cell}|{on_one_line}|{on_several})[^"]*+)*+'.encode())
        self._closed = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"(?=[^"])')
        self._rest: bytes | None = None  # from the byte before what is not yet understood

    def merge_rows(self, block: bytes) -> bool:
        """Whether a quote that was opened on one line and is closed on another does not end its cell.

        Args:
            block: The next bytes of the file; the last must be a line break.
        """
        if self._rest is None:
            self._rest, block = b"\n", block.removeprefix(_BYTE_ORDER_MARK)
        text = self._rest + block
        match = self._sound.match(text, 1)
        stop = match.end() if match else 1
        self._rest = text[stop - 1 :]
        return bool(self._closed.match(text, stop))
