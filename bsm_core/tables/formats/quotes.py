"""Detection of stray quotes, which would merge rows of a text file."""

from __future__ import annotations

import re


class Quotes:
    """State of the quotes in a text file that is read block by block.

    CSV readers read ``"a" b`` as the cell ``a b``. If there are line breaks between the two quotes, the quotes are most
    likely stray quotes of two different rows, and such a reader would merge all rows from the first to the second.

    Args:
        delimiter: The character between two cells.
    """

    def __init__(self, delimiter: str) -> None:
        ends = rf"{re.escape(delimiter)}\r\n"
        inside_a_cell = rf'(?<=[^{ends}])"'  # an ordinary character
        on_one_line = r'"[^"\r\n]*+(?:""[^"\r\n]*+)*+"(?=[^"])'  # sound, whatever comes next
        on_several_lines = rf'"[^"]*+(?:""[^"]*+)*+"(?=[{ends}])'  # sound, because the cell ends
        sound = rf'[^"]*+(?:(?:{inside_a_cell}|{on_one_line}|{on_several_lines})[^"]*+)*+'
        self._sound = re.compile(sound.encode())
        self._closed = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"(?=[^"])')
        self._rest = b"\n"  # the bytes that _sound has not matched yet, and one byte before them

    def merge_rows(self, block: bytes) -> bool:
        """Return whether a quote is opened on one line and closed on another, in the middle of a cell.

        Args:
            block: The next bytes of the file, without byte order mark. The last byte of the file must be a line break.
        """
        text = self._rest + block
        match = self._sound.match(text, 1)
        stop = match.end() if match else 1
        self._rest = text[stop - 1 :]
        return bool(self._closed.match(text, stop))
