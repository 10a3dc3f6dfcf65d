"""Reading the rows of a prediction file: the ids as text, and the probabilities as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bsm_core.errors import DataError, quoted, short_repr
from bsm_core.preprocess.cell_reasons import why_no_number
from bsm_core.preprocess.cells import numbers_of, values_at
from bsm_core.preprocess.columns import text_values
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.plain_values import holds_text, plain_values
from bsm_core.tables.read import TableSource


def tables_of(source: TableSource, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read some columns of a table, in windows."""
    with closing(source.windows(columns, rows=1 << 16)) as windows:
        yield from (window.table for window in windows)


def ids_of(column: pa.ChunkedArray) -> list[str]:
    """Return the id of each row as text, which is the same in every format: 7 in Parquet is ``7`` in CSV.

    Bytes that are not UTF-8 become escapes such as ``\\xe9``.
    """
    texts, bad = text_values(column)
    for row, value in zip(bad, values_at(column, list(bad)), strict=True):
        texts[row] = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return texts


def ids_and_probabilities(
    tables: Iterable[pa.Table], id_field: str, names: Sequence[str], where: str
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return all rows of :func:`scored_windows`: the ids, and the probabilities ``[rows, classes]``."""
    ids: list[str] = []
    blocks = [np.empty((0, len(names)))]
    for some, block in scored_windows(tables, id_field, names, where):
        ids += some
        blocks.append(block)
    return ids, np.concatenate(blocks)


def scored_windows(
    tables: Iterable[pa.Table], id_field: str, names: Sequence[str], where: str
) -> Iterator[tuple[list[str], npt.NDArray[np.float64]]]:
    """Yield the id of each row of a window and its probabilities, float64 ``[rows, classes]``, NaN for an empty cell.

    Args:
        tables: Consecutive rows, with the columns ``id_field`` and ``names``.
        id_field: Name of the id column.
        names: Names of the probability columns, in the order of the classes.
        where: Name of the file, for errors.

    Raises:
        DataError: A probability is not a finite number.
    """
    start = 0
    for table in tables:
        ids = ids_of(table.column(id_field))
        block = np.empty((len(table), len(names)))
        for number, name in enumerate(names):
            column = table.column(name)
            dialect = _spelling(column)
            block[:, number] = numbers_of(column, dialect)
            if np.isinf(block[:, number]).any():
                row = int(np.isinf(block[:, number]).argmax())
                (cell,) = values_at(column, [row])
                text = cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell
                shown = quoted(text[:80]) if isinstance(text, str) else short_repr(text)
                place = f"{where}: column {name!r}, row {start + row + 1:,}, id {quoted(ids[row])}"
                what = f"a probability cannot be used: {why_no_number(cell, dialect)}: {shown}"
                raise DataError(what, where=place)
        start += len(table)
        yield ids, block


def _spelling(column: pa.ChunkedArray) -> Dialect:
    """Return the spelling of a column of probabilities. None of them has a thousand, so a comma is a decimal point."""
    column = plain_values(column)
    if not holds_text(column.type):
        return Dialect()
    has_comma = pc.any(pc.match_substring(column.cast(pa.large_binary()), ",")).as_py()
    return Dialect(decimal="," if has_comma else None)
