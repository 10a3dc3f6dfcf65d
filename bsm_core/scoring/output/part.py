"""The part of a window: its output rows, and what belongs to them, as tables in one file of the work folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bsm_core.report.statistics import Statistics
from bsm_core.scoring.output.manifest import PartRecord
from bsm_core.scoring.output.row_issues import ROWS_NAMED
from bsm_core.tables.windows import Position

_NAME = b"bsm"
"""Key in the metadata of a table's schema, whose value says which of the part's tables it is."""
_ROWS, _EMBEDDINGS, _ISSUES, _STATISTICS = b"rows", b"embeddings", b"issues", b"statistics"
"""Names of the tables. That of the statistics has one cell: the statistics of the window."""


@dataclass(frozen=True)
class Part:
    """Output of one window.

    Attributes:
        window, last, end, files: Index, ``last``, ``end`` and ``files`` of the :class:`bsm_core.tables.windows.Window`.
        table: The kept columns and the probabilities.
        counts: Numbers for the run record, which the commit sums over all parts.
        issues: What was wrong with rows of the window; None if nothing was.
        fraction: Share of the input that was read up to the window, 0 to 1.
        statistics: Function that returns the statistics of the window, which the commit adds up; None if it was not
            scored. It is called in the thread that writes the part, while the next window is scored.
        embeddings: The id and the vectors of each row; None if they were not asked for.
    """

    window: int
    last: bool
    end: Position | None
    table: pa.Table
    counts: Mapping[str, float]
    issues: pa.Table | None = None
    fraction: float = 0.0
    files: Sequence[tuple[int, int]] = ()
    statistics: Callable[[], Statistics] | None = None
    embeddings: pa.Table | None = None

    def packed(self, attempt: int) -> PackedPart:
        """Return the part as the bytes of its file, and its record.

        Args:
            attempt: Number of the attempt that computed it.
        """
        content = pa.BufferOutputStream()
        counted = None if self.statistics is None else pa.table({_STATISTICS: [self.statistics().to_bytes()]})
        tables = {_ROWS: self.table, _EMBEDDINGS: self.embeddings, _ISSUES: self.issues, _STATISTICS: counted}
        for name, table in tables.items():
            if table is not None:
                named = table.unify_dictionaries().replace_schema_metadata({_NAME: name})
                with pa.ipc.new_stream(content, named.schema) as writer:
                    writer.write_table(named)
        data = content.getvalue()
        record = PartRecord(
            window=self.window,
            rows=self.table.num_rows,
            last=self.last,
            end=self.end,
            bytes=data.size,
            sha256=hashlib.sha256(data).hexdigest(),
            counts=dict(self.counts),
            attempt=attempt,
            files=tuple(self.files),
        )
        examples = None if self.issues is None else self.issues.slice(0, ROWS_NAMED)
        return PackedPart(record, data, self.fraction, examples)


@dataclass(frozen=True)
class PackedPart:
    """A part on its way to the disk.

    Attributes:
        record: Its line of the manifest.
        data: Content of its file.
        fraction: See :class:`Part`.
        examples: The first issues of the window.
    """

    record: PartRecord
    data: pa.Buffer
    fraction: float = 0.0
    examples: pa.Table | None = None


@dataclass(frozen=True)
class PartTables:
    """The tables of a part that was read from the disk.

    Attributes:
        rows: The kept columns and the probabilities.
        embeddings, issues: See :class:`Part`.
        statistics: Statistics of the window; None if there are none.
    """

    rows: pa.Table
    embeddings: pa.Table | None
    issues: pa.Table | None
    statistics: Statistics | None

    @classmethod
    def of(cls, data: pa.Buffer) -> PartTables:
        """Read the content of a part's file."""
        source, tables = pa.BufferReader(data), dict[bytes, pa.Table]()
        while source.tell() < data.size:
            table = pa.ipc.open_stream(source).read_all()
            tables[table.schema.metadata[_NAME]] = table.replace_schema_metadata(None)
        counted = tables.get(_STATISTICS)
        statistics = None if counted is None else Statistics.from_bytes(counted.column(0)[0].as_py())
        return cls(tables[_ROWS], tables.get(_EMBEDDINGS), tables.get(_ISSUES), statistics)
