"""Tables in files, for tests of what reads them in parts."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from hypothesis import strategies as st

from bsm_core.tables.read import TableSource


def cells(count: int, first: int = 0) -> pa.Table:
    """Rows with an id and a text with quotes, delimiters and line breaks."""
    texts = [f'text {i}\n"quoted", {"x" * (i % 7)}' for i in range(first, first + count)]
    return pa.table({"id": [f"{i}" for i in range(first, first + count)], "text": texts})


def write(folder: Path, format: str, sizes: Sequence[int]) -> TableSource:
    """Write files of these numbers of rows, in ``csv``, ``csv.gz`` or ``parquet``, with five rows in a row group."""
    for number, size in enumerate(sizes):
        table = cells(size, sum(sizes[:number]))
        path = folder / f"{number}.{format}"
        if format == "parquet":
            pq.write_table(table, path, row_group_size=5)
        else:
            pacsv.write_csv(table, path.with_suffix(""), pacsv.WriteOptions(include_header=True))
            content = path.with_suffix("").read_bytes()
            path.with_suffix("").unlink()
            path.write_bytes(gzip.compress(content) if format.endswith("gz") else content)
    return TableSource.open(folder)


CELLS = st.text(st.sampled_from(list('ab,"\r\n\ufeffé')), max_size=8)
BAD_LINES = st.sampled_from(["bad", "1,2,3", '"a', 'x,"b', '"b\nc"d,e', "\ufeffbad"])


@st.composite
def csv_files(draw: st.DrawFn, bad: bool) -> bytes:
    """The bytes of a CSV file, with lines that cannot be read as rows if ``bad``."""
    quoted = CELLS.map(lambda text: '"' + text.replace('"', '""') + '"')
    plain = CELLS.map(lambda text: text.translate(dict.fromkeys(map(ord, '",\r\n'))) or "c")
    row = st.tuples(plain | quoted, plain | quoted).map(",".join)
    lines = ["id,text", *draw(st.lists(row | BAD_LINES if bad else row, max_size=30))]
    breaks = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
    text = draw(st.sampled_from(["", "\ufeff"])) + "".join(line + draw(breaks) for line in lines)
    return (text if draw(st.booleans()) else text.rstrip("\r\n")).encode()
