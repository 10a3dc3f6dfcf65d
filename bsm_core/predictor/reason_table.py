"""Reasons as a table: a line for each feature, text field and word of a row, with what it adds to the log-odds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
from torch import Tensor

from bsm_core.preprocess.tracing.traced_chunks import TracedChunk
from bsm_core.preprocess.tracing.traced_text import Place

COLUMNS = pa.schema(
    [
        ("class", pa.string()),
        ("field", pa.string()),
        ("token", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("feature", pa.string()),
        ("contribution", pa.float64()),
        ("baseline", pa.float64()),
    ]
)
"""Columns of the reasons of a row, after its id.

``class`` is the class whose log-odds are explained, ``field`` the column of the input table. ``token`` is a word of a
text field, with its ``start`` and ``end`` in the cell, in characters; all three are null in the line of what no word of
the field explains. ``feature`` is the cell of a feature as text. The contributions of a row and class and the
``baseline`` add up to the log-odds.
"""


@dataclass(frozen=True)
class Word:
    """Word of a text field with what its tokens add.

    Attributes:
        text: The word as it stands in the cell; the text of its tokens if its place is not known.
        place: Start and end in the cell; None if not known.
        values: Contributions, float64 ``[outputs]``.
    """

    text: str
    place: Place | None
    values: Tensor


@dataclass(frozen=True)
class RowReasons:
    """Reasons for the score of one row.

    Attributes:
        fields: Contribution of each text field, float64 ``[outputs]`` by column.
        features: Contribution of each feature, float64 ``[outputs]`` by column.
        baseline: Log-odds of the background, float64 ``[outputs]``.
        words: Words of text fields, by column; a field whose tokens are not explained has none.
        cells: Text of the features' cells, by column; None for a missing cell.
    """

    fields: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    baseline: Tensor
    words: Mapping[str, Sequence[Word]] = field(default_factory=dict)
    cells: Mapping[str, str | None] = field(default_factory=dict)

    def lines(self, classes: Sequence[str]) -> Iterator[dict[str, object]]:
        """Yield the lines of the table, without the id.

        Args:
            classes: Name of the class of each output.
        """
        for output, name in enumerate(classes):
            common = {"class": name, "baseline": float(self.baseline[output])}
            for column, values in self.fields.items():
                left = float(values[output])
                for word in self.words.get(column, ()):
                    value = float(word.values[output])
                    start, end = word.place or (None, None)
                    place = {"start": start, "end": end}
                    yield {**common, "field": column, "token": word.text, **place, "contribution": value}
                    left -= value
                yield {**common, "field": column, "contribution": left}
            for column, values in self.features.items():
                cell = {"feature": self.cells.get(column)}
                yield {**common, "field": column, **cell, "contribution": float(values[output])}


def words_of(cell: str, chunks: Sequence[TracedChunk], values: Sequence[Tensor], passed: frozenset[int]) -> list[Word]:
    """Return the words of a cell: tokens that are pieces of one word are put together.

    Args:
        cell: The original cell.
        chunks: Its chunks, with tokens.
        values: Contributions of the tokens of each chunk, float64 ``[tokens, outputs]``.
        passed: Token ids that are no words, such as that of ``[CLS]``.
    """
    tokens = [
        (number, token, place, value)
        for chunk, own in zip(chunks, values, strict=True)
        for i, token, place, number, value in zip(chunk.ids, chunk.tokens, chunk.places, chunk.words, own, strict=True)
        if i not in passed
    ]
    alone = iter(range(-1, -1 - len(tokens), -1))  # a token without a number is a word of its own
    words = []
    for _, group in groupby(tokens, key=lambda each: next(alone) if each[0] is None else each[0]):
        pieces = list(group)
        places = [place for _, _, place, _ in pieces if place is not None]
        place = (min(start for start, _ in places), max(end for _, end in places)) if places else None
        text = cell[slice(*place)] if place else "".join(token.removeprefix("##") for _, token, _, _ in pieces)
        words.append(Word(text, place, sum((value for *_, value in pieces[1:]), pieces[0][3])))
    return words


def reason_table(ids: pa.Array, name: str, reasons: Sequence[RowReasons], classes: Sequence[str]) -> pa.Table:
    """Return the reasons of rows.

    Args:
        ids: Id of each row.
        name: Name of the id column.
        reasons: Reasons of each row.
        classes: Name of the class of each output.
    """
    lines = [(row, line) for row, each in enumerate(reasons) for line in each.lines(classes)]
    rows = pa.array([row for row, _ in lines], pa.int64())
    found = pa.Table.from_pylist([line for _, line in lines], schema=COLUMNS)
    return found.add_column(0, pa.field(name, ids.type), ids.take(rows))
