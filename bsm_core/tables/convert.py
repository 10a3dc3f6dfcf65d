"""Conversion of a table to another format, one window at a time."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from bsm_core.errors import DataError, UsageError
from bsm_core.runtime import durable
from bsm_core.storage.temporary import scratch
from bsm_core.tables.data_files import Format, detect_format, warn_of_passed_over
from bsm_core.tables.formats.dialect import Dialect
from bsm_core.tables.formats.folders import warn_of_no_marker
from bsm_core.tables.read import TableSource
from bsm_core.tables.write import TableWriter, output_schema

log = logging.getLogger("bsm")


def convert(
    source: Path, destination: Path, *, format: Format | None = None, rows: int = 4096, dialect: Dialect | None = None
) -> int:
    """Write all columns and rows of a table, in order, in another format.

    Columns in the names of folders are among them if the source is a folder or a pattern.

    Args:
        source: A data file, a folder of data files, or a pattern.
        destination: The file to write. It appears only when it is complete.
        format: Format of the destination. None: the format that its extension names.
        rows: Number of rows in memory at a time.
        dialect: Dialect of CSV and TSV files of the source. The destination is plain CSV or TSV in UTF-8.

    Returns:
        The number of rows.

    Raises:
        UsageError: The destination is one of the source files.
        DataError: The source cannot be read, or cannot be written in this format.
        OSError: The destination cannot be written.
    """
    table = TableSource.open(source, dialect=dialect, partitions=not source.is_file())
    warn_of_passed_over(source, table.files)
    warn_of_no_marker(source)
    if not table.columns:
        raise DataError("the file has no columns", where=str(table.files[0]), fix="look how the file was written")
    if destination.resolve() in {file.resolve() for file in table.files}:
        raise UsageError("a table cannot be written over itself", where=str(destination), fix="name another file")
    format = format or detect_format(destination)
    schema = output_schema(table.schema(table.columns), table.format, format)
    table = table.typed(schema)
    # The extension stays at the end because it sets the compression. Readers of the folder ignore names that begin
    # with a dot.
    count = 0
    with scratch(destination.parent) as folder:
        partial = folder / f".partial-{destination.name}"
        try:
            windows = closing(table.windows(table.columns, rows=rows))
            with TableWriter(partial, schema, format) as writer, windows as reader:
                for window in reader:
                    writer.write(window.table)
                    count += len(window.table)
            durable.replace(partial, destination)
        finally:
            partial.unlink(missing_ok=True)
    return count
